use jiff::SignedDuration;

use super::*;

fn timetable(text: &str) -> Timetable {
    text.parse().unwrap()
}

/// A local time with its zone: `2026-03-29T01:59:00[Europe/Berlin]`.
fn at(text: &str) -> ZonedDateTime {
    text.parse().unwrap()
}

/// All changes of the rate from a moment on, within so many hours: the local time with its offset, and the rate then.
fn changes(timetable: &Timetable, from: &str, hours: i64) -> Vec<(String, f64)> {
    let mut now = at(from);
    let end = now.checked_add(hours.hours()).unwrap();
    let mut changes = Vec::new();
    while let Some(change) = timetable.next_change(&now)
        && change < end.timestamp()
    {
        now = change.to_zoned_datetime(now.time_zone().clone());
        let rate = timetable.rate_at(&now).map_or(0.0, Rate::per_second);
        changes.push((now.strftime("%d %H:%M%:z").to_string(), rate));
        let before = change.checked_sub(SignedDuration::from_millis(1)).unwrap();
        let before = before.to_zoned_datetime(now.time_zone().clone());
        assert_ne!(timetable.rate_at(&before), timetable.rate_at(&now), "{now}");
    }
    changes
}

fn expected(changes: &[(&str, f64)]) -> Vec<(String, f64)> {
    changes.iter().map(|(at, rate)| ((*at).to_owned(), *rate)).collect()
}

#[test]
fn a_timetable_is_read_in_any_order_and_shown_in_one() {
    for (text, shown, highest) in [
        ("20", "20", 20.0),
        ("2.5", "2.5", 2.5),
        ("08:00=5,22:00=20", "08:00=5,22:00=20", 20.0),
        ("22:00=20, 8:00=0.5", "08:00=0.5,22:00=20", 20.0),
        ("0:00=0,23:59=1e3", "00:00=0,23:59=1000", 1000.0),
        ("08:00=7", "7", 7.0),
        ("08:00=7,09:00=7", "7", 7.0),
    ] {
        let timetable = timetable(text);
        assert_eq!(timetable.to_string(), shown);
        assert_eq!(timetable.highest().per_second(), highest);
        assert_eq!(shown.parse::<Timetable>().unwrap().to_string(), shown);
    }
    assert_eq!(
        serde_json::to_string(&timetable("8:00=5,22:00=20")).unwrap(),
        r#""08:00=5,22:00=20""#
    );
    assert_eq!(serde_json::to_string(&timetable("8:00=5")).unwrap(), "5.0");
    assert_eq!(
        timetable("12:00=0,8:00=5").in_words(),
        "at most 5/s from 08:00, paused from 12:00"
    );
}

#[test]
fn what_is_no_timetable_is_refused_with_the_entry_and_what_is_right() {
    for (text, says) in [
        ("", "a number from 0.001 to 1000000"),
        ("0", "a number from 0.001 to 1000000"),
        ("five", "a number from 0.001 to 1000000"),
        (
            "25:00=5",
            "entry 1, '25:00=5': write the time as hours and minutes from 00:00 to 23:59",
        ),
        ("08:00=5,24:00=20", "entry 2, '24:00=20': write the time as"),
        ("8:60=5", "entry 1, '8:60=5': write the time as"),
        ("8:5=5", "write the time as"),
        ("008:05=5", "write the time as"),
        ("+8:05=5", "write the time as"),
        (":=5", "write the time as"),
        ("08:00:00=5", "write the time as"),
        (
            "08:00=5,",
            "entry 2, '': write each entry as a time and a rate, like 08:00=5",
        ),
        (",", "entry 1, ''"),
        ("=", "entry 1, '=': write each entry"),
        ("20,22:00=5", "entry 1, '20': write each entry"),
        ("08:00", "entry 1, '08:00': write each entry"),
        ("8=5", "entry 1, '8=5': write each entry"),
        (
            "08:00=",
            "entry 1, '08:00=': the rate must be 0, which is a pause, or a number from 0.001",
        ),
        ("08:00=-1", "the rate must be 0"),
        ("08:00=nan", "the rate must be 0"),
        ("08:00=1e7", "the rate must be 0"),
        ("08:00=5=5", "the rate must be 0"),
        (
            "08:00=5;22:00=20",
            "entry 1, '08:00=5;22:00=20': separate entries with commas, without blanks, like 08:00=5,22:00=20",
        ),
        ("08:00=5 22:00=20", "separate entries with commas"),
        (
            "08:00=5,22:00=20;",
            "entry 2, '22:00=20;': separate entries with commas",
        ),
        ("08:00=5,8:00=20", "08:00 has two entries"),
        ("08:00=0,22:00=0", "all entries are pauses"),
    ] {
        let error = text.parse::<Timetable>().unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn the_last_entry_holds_until_the_first() {
    let night = timetable("08:00=5,22:00=20");
    for (time, rate) in [
        ("00:00", 20.0),
        ("07:59", 20.0),
        ("08:00", 5.0),
        ("21:59", 5.0),
        ("22:00", 20.0),
    ] {
        let at = at(&format!("2026-12-01T{time}[Europe/Berlin]"));
        assert_eq!(night.rate_at(&at).map(Rate::per_second), Some(rate), "{time}");
    }
    let changed = [
        ("01 08:00+01:00", 5.0),
        ("01 22:00+01:00", 20.0),
        ("02 08:00+01:00", 5.0),
    ];
    assert_eq!(
        changes(&night, "2026-11-30T23:30[Europe/Berlin]", 36),
        expected(&changed)
    );
    // What is not another rate is no change.
    let same = timetable("00:00=20,08:00=5,12:00=5,22:00=20");
    assert_eq!(
        changes(&same, "2026-11-30T23:30[Europe/Berlin]", 36),
        expected(&changed)
    );
    assert_eq!(
        timetable("20").next_change(&at("2026-12-01T00:00[Europe/Berlin]")),
        None
    );
}

#[test]
fn an_entry_whose_time_is_skipped_begins_when_the_clock_jumps_over_it() {
    let table = timetable("01:00=1,02:30=2,04:00=4");
    // From 02:00 to 03:00.
    let berlin = [
        ("29 01:00+01:00", 1.0),
        ("29 03:00+02:00", 2.0),
        ("29 04:00+02:00", 4.0),
    ];
    assert_eq!(changes(&table, "2026-03-28T23:00[Europe/Berlin]", 6), expected(&berlin));
    let new_york = [
        ("08 01:00-05:00", 1.0),
        ("08 03:00-04:00", 2.0),
        ("08 04:00-04:00", 4.0),
    ];
    assert_eq!(
        changes(&table, "2026-03-07T23:00[America/New_York]", 6),
        expected(&new_york)
    );
    // Two that are skipped: only the last of them is ever seen.
    let two = timetable("02:10=1,02:50=2,12:00=9");
    let changed = [("29 03:00+02:00", 2.0), ("29 12:00+02:00", 9.0)];
    assert_eq!(changes(&two, "2026-03-28T23:00[Europe/Berlin]", 13), expected(&changed));
}

#[test]
fn in_an_hour_that_is_repeated_the_entries_hold_as_the_clock_on_the_wall_says() {
    let table = timetable("01:00=1,02:30=2,04:00=4");
    // 03:00 is 02:00 again.
    let berlin = [
        ("25 01:00+02:00", 1.0),
        ("25 02:30+02:00", 2.0),
        ("25 02:00+01:00", 1.0),
        ("25 02:30+01:00", 2.0),
        ("25 04:00+01:00", 4.0),
    ];
    assert_eq!(changes(&table, "2026-10-24T23:30[Europe/Berlin]", 7), expected(&berlin));
    // 02:00 is 01:00 again.
    let table = timetable("01:30=1,03:00=3");
    let new_york = [
        ("01 01:30-04:00", 1.0),
        ("01 01:00-05:00", 3.0),
        ("01 01:30-05:00", 1.0),
        ("01 03:00-05:00", 3.0),
    ];
    assert_eq!(
        changes(&table, "2026-11-01T00:30[America/New_York]", 5),
        expected(&new_york)
    );
}

#[test]
fn clocks_that_change_at_midnight_and_zones_without_changes_are_no_exception() {
    // Cairo's clocks go from 00:00 to 01:00.
    let table = timetable("00:00=1,12:00=2");
    let cairo = [("24 01:00+03:00", 1.0), ("24 12:00+03:00", 2.0)];
    assert_eq!(changes(&table, "2026-04-23T13:00[Africa/Cairo]", 24), expected(&cairo));
    let shanghai = [("24 00:00+08:00", 1.0), ("24 12:00+08:00", 2.0)];
    assert_eq!(
        changes(&table, "2026-04-23T13:00[Asia/Shanghai]", 24),
        expected(&shanghai)
    );
    // Lord Howe's by half an hour: 02:00 is 01:30 again.
    let table = timetable("01:45=1,06:00=2");
    let lord_howe = [
        ("05 01:45+11:00", 1.0),
        ("05 01:30+10:30", 2.0),
        ("05 01:45+10:30", 1.0),
        ("05 06:00+10:30", 2.0),
    ];
    assert_eq!(
        changes(&table, "2026-04-05T00:00[Australia/Lord_Howe]", 7),
        expected(&lord_howe)
    );
}

/// How many seconds so many requests take.
fn seconds_for(table: &str, requests: f64, from: &str) -> Option<f64> {
    let takes = timetable(table).time_for_at(requests, None, &at(from));
    takes.map(|takes| takes.as_secs_f64())
}

#[test]
fn the_time_for_requests_is_that_of_all_entries_that_they_take() {
    let from = "2026-12-01T21:00[Europe/Berlin]";
    assert_eq!(seconds_for("20", 100.0, from), Some(5.0));
    assert_eq!(seconds_for("20", 0.0, from), Some(0.0));
    assert_eq!(seconds_for("08:00=5,22:00=20", 18_000.0, from), Some(3600.0));
    assert_eq!(seconds_for("08:00=5,22:00=20", 18_020.0, from), Some(3601.0));
    // A pause is waited out, also one that has begun.
    assert_eq!(seconds_for("08:00=0,22:00=20", 20.0, from), Some(3601.0));
    assert_eq!(
        seconds_for("08:00=0,22:00=20", 20.0 * 36_000.0 + 20.0, from),
        Some(25.0 * 3600.0 + 1.0)
    );
    assert_eq!(seconds_for("08:00=0,22:00=20", 0.0, from), Some(0.0));
    // In the night to 25 October there is an hour more.
    let autumn = "2026-10-24T22:00[Europe/Berlin]";
    assert_eq!(
        seconds_for("08:00=0,22:00=20", 11.0 * 72_000.0, autumn),
        Some(11.0 * 3600.0)
    );
}

#[test]
fn millions_of_requests_take_as_many_days_as_they_need_and_more_than_ten_years_are_not_said() {
    let from = "2026-12-01T22:00[Asia/Shanghai]";
    let a_night = 10.0 * 3600.0 * 20.0;
    for nights in [1.0, 2.0, 3.0, 4.0, 100.0, 1000.0] {
        let takes = seconds_for("08:00=0,22:00=20", a_night * nights, from);
        assert_eq!(takes, Some((nights - 1.0) * DAY + 36_000.0), "{nights}");
        let takes = seconds_for("08:00=0,22:00=20", a_night * nights + 20.0, from);
        assert_eq!(takes, Some(nights * DAY + 1.0), "{nights}");
    }
    assert_eq!(seconds_for("08:00=0,22:00=20", a_night * 5000.0, from), None);
    assert_eq!(seconds_for("08:00=0,22:00=0.001", 1e15, from), None);
    assert_eq!(seconds_for("0.001", 1e9, from), None);
    assert_eq!(seconds_for("20", f64::INFINITY, from), None);
}

#[test]
fn a_limit_of_the_quota_counts_until_it_ends() {
    let (table, from) = (timetable("08:00=5,22:00=20"), at("2026-12-01T21:00[Europe/Berlin]"));
    let takes = |rate: f64, hours: Option<i64>, requests: f64| {
        let until = hours
            .map(|hours| from.checked_add(hours.hours()).unwrap().timestamp())
            .map(|until| SystemTime::try_from(until).unwrap());
        let limit = Limit::new(Rate::try_from(rate).ok(), until);
        let takes = table.time_for_at(requests, Some(limit), &from);
        takes.map(|takes| takes.as_secs_f64())
    };
    assert_eq!(takes(0.0, None, 1.0), None);
    assert_eq!(takes(0.0, Some(2), 20.0), Some(7201.0));
    // Above the own rate it changes nothing, until that is higher too.
    assert_eq!(takes(10.0, Some(2), 18_000.0 + 36_000.0 + 20.0), Some(7201.0));
    assert_eq!(takes(10.0, None, 18_000.0 + 10.0), Some(3601.0));
}

#[test]
fn as_many_requests_start_within_a_time_as_take_that_time() {
    let (table, from) = (timetable("08:00=5,22:00=20"), at("2026-12-01T21:00[Europe/Berlin]"));
    let requests = |seconds: u64| table.requests_in(Duration::from_secs(seconds), None, &from);
    assert_eq!((requests(0), requests(3600), requests(3601)), (0.0, 18_000.0, 18_020.0));
    for seconds in [1, 5000, 86_400, 500_000] {
        let takes = table.time_for_at(requests(seconds), None, &from).unwrap();
        assert_eq!(takes.as_secs_f64().round() as u64, seconds);
    }
    let paused_for_an_hour = Limit::new(
        None,
        SystemTime::try_from(from.timestamp() + SignedDuration::from_hours(1)).ok(),
    );
    let requests = table.requests_in(Duration::from_secs(3601), Some(paused_for_an_hour), &from);
    assert_eq!(requests, 20.0);
}
