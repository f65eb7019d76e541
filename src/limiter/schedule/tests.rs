use proptest::prelude::*;

use super::*;

fn wanted(run: u32, rate: f64) -> Wanted {
    Wanted {
        run,
        pace: Pace { rate, share: 1.0 },
        count: 1,
        ahead: 0,
        delay: 0,
        limit: None,
        previous: None,
    }
}

fn made_of(at: u64, count: u32, late: u64) -> Made {
    Made { at, count, late }
}

/// The most starts in any second. Each of several starts may come at any moment of its reservation: the worst is assumed.
fn fullest(starts: &[Start]) -> u64 {
    let within = |from: u64| {
        starts
            .iter()
            .filter(move |start| start.until >= from && start.at < from + SECOND)
    };
    let counted = starts
        .iter()
        .map(|first| within(first.at).map(|start| u64::from(start.count)).sum());
    counted.max().unwrap_or(0)
}

proptest! {
    #[test]
    fn no_second_has_more_starts_than_the_largest_rate_however_late_they_are_and_whether_it_is_told(
        rates in proptest::collection::vec(prop_oneof![Just(20.0), Just(5.0), Just(1.0), Just(7.5)], 1..5),
        calls in proptest::collection::vec((0_usize..5, 0_u64..300_000, 0..LATENESS, any::<bool>(), 0.3_f64..1.0), 1..300),
    ) {
        let (mut schedule, mut now, mut made) = (Schedule::default(), 1_000_000_000, Vec::new());
        let mut busy_until = vec![0; rates.len()];
        for (run, later, late, is_told, share) in calls {
            let run = run % rates.len();
            now += later / rates.len() as u64;
            // A run reserves again only when its last start is made.
            now = now.max(busy_until[run]);
            let pace = Pace { rate: rates[run], share };
            let reserved = schedule.reserve(now, Wanted { pace, ..wanted(run as u32, rates[run]) });
            if let Ok(start) = reserved {
                prop_assert!(start.at >= now);
                let started_at = start.at + late;
                busy_until[run] = started_at;
                if is_told {
                    schedule.settle(run as u32, made_of(start.at, 1, late), 0);
                }
                made.push(Start { at: started_at, until: started_at, ..start });
            }
        }
        let largest = made.iter().map(|start| start.rate).fold(0.0, f64::max);
        prop_assert!(fullest(&made) <= largest.ceil() as u64, "{} of {largest}", fullest(&made));
    }

    #[test]
    fn a_run_that_knows_nothing_of_forgotten_starts_keeps_the_cap_however_late_they_were(
        rate in prop_oneof![Just(20.0), Just(5.0), Just(7.5), Just(1.0)],
        calls in proptest::collection::vec((0_u64..200_000, 0..LATENESS), 1..60),
    ) {
        let (mut schedule, mut now, mut made) = (Schedule::default(), 1_000_000_000, Vec::new());
        for (later, late) in calls {
            now += later;
            match schedule.reserve(now, wanted(1, rate)) {
                Ok(start) => {
                    schedule.settle(1, made_of(start.at, 1, late), 0);
                    now = start.at + late;
                    made.push(Start { at: now, until: now, ..start });
                }
                Err(later) => now = later,
            }
        }
        let mut next = Schedule::begun_at(schedule.until_forgotten());
        now = next.not_before;
        while made.len() < 120 {
            match next.reserve(now, wanted(2, rate)) {
                Ok(start) => {
                    now = start.at;
                    next.settle(2, made_of(now, 1, 0), 0);
                    made.push(Start { until: now, ..start });
                }
                Err(later) => now = later,
            }
        }
        prop_assert!(fullest(&made) <= f64::ceil(rate) as u64, "{} of {rate}", fullest(&made));
    }

    #[test]
    fn text_that_was_written_is_read_back_and_other_text_does_no_harm(text in "\\PC{0,200}", at in 0_u64..u64::MAX / 4) {
        let _ = Schedule::parse(&text).map(|mut schedule| schedule.reserve(at, wanted(1, 20.0)));
        let mut schedule = Schedule::default();
        schedule.pause_until(7);
        for run in [1, 0xffff_ffff] {
            schedule.insert(Start { at, until: at + 5, count: 3, rate: 0.001, run });
        }
        let whole = schedule.to_string();
        prop_assert_eq!(Schedule::parse(&format!("{whole}1 2 3 4 5\n")), Some(schedule));
        prop_assert_eq!(Schedule::parse(whole.trim_end().trim_end_matches("end")), None);
    }
}

#[test]
fn one_run_gets_the_whole_rate_and_several_get_equal_shares() {
    for runs in [1, 3, 10] {
        let mut schedule = Schedule::default();
        let mut next = vec![0; runs];
        let mut made = vec![0; runs];
        // Each run reserves again as soon as its start is made.
        while let Some((run, now)) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at)
            && now < 60 * SECOND
        {
            match schedule.reserve(now, wanted(run as u32, 20.0)) {
                Ok(start) => {
                    schedule.settle(run as u32, made_of(start.at, 1, 0), 0);
                    made[run] += 1;
                    next[run] = start.at + 1;
                }
                Err(later) => next[run] = later,
            }
        }
        let all: usize = made.iter().sum();
        assert!((1190..=1205).contains(&all), "{runs} runs: {all} starts in a minute");
        let (least, most) = (made.iter().min().unwrap(), made.iter().max().unwrap());
        assert!(most - least <= 1, "{made:?}");
    }
}

#[test]
fn several_starts_can_be_reserved_at_once_within_the_cap() {
    let (mut schedule, mut now, mut made) = (Schedule::default(), 0, Vec::new());
    while now < 5 * SECOND {
        let wanted = Wanted {
            count: 10,
            ..wanted(1, 2000.0)
        };
        match schedule.reserve(now, wanted) {
            Ok(start) => {
                let last = start.at + 9 * 500;
                schedule.settle(1, made_of(start.at, 10, 9 * 500), 0);
                made.push(Start { until: last, ..start });
                now = last + 1;
            }
            Err(later) => now = later,
        }
    }
    let all: u32 = made.iter().map(|start| start.count).sum();
    assert!(all > 9_900, "{all} starts in five seconds");
    assert!(fullest(&made) <= 2000, "{}", fullest(&made));
}

#[test]
fn a_slow_run_does_not_reserve_far_ahead() {
    let mut schedule = Schedule::default();
    assert!(schedule.reserve(0, wanted(1, 0.1)).is_ok());
    let next = schedule.reserve(0, wanted(2, 0.1)).unwrap_err();
    assert_eq!(next, 10 * SECOND + 10 * STRETCH);
    // Another run's higher rate applies to all.
    assert_eq!(
        schedule.reserve(1, wanted(3, 20.0)).map(|start| start.at / 1000),
        Ok(50)
    );
}

#[test]
fn times_that_no_run_can_have_written_are_dropped_and_then_nothing_starts_for_a_second() {
    let now = 1_000_000;
    for impossible in [
        "99999999999999 99999999999999 1 20 a",
        "18446744073709551615 18446744073709551615 1 20 b",
        "5 18446744073709551615 1 20 c",
        "hold 99999999999999",
    ] {
        let mut schedule = Schedule::parse(&format!("hold 0\n{impossible}\n8 8 1 20 f\nend\n")).unwrap();
        assert_eq!(
            schedule.reserve(now, wanted(1, 20.0)),
            Err(now + SECOND + MARGIN),
            "{impossible}"
        );
        assert_eq!(schedule.starts().len(), 1, "{impossible}");
        let later = now + SECOND + MARGIN;
        assert_eq!(
            schedule.reserve(later, wanted(1, 20.0)).map(|start| start.at),
            Ok(later)
        );
    }
}

#[test]
fn a_line_with_impossible_numbers_is_no_start_and_changes_nothing() {
    let now = 1_000_000;
    for impossible in [
        "6 6 4294967295 20 d",
        "7 7 1 nan e",
        "7 7 1 abc e",
        "8 8 1 1e300 e",
        "8 8 1 1000000001 e",
        "9 9 1 -1 e",
        "9 9 1 0 e",
    ] {
        let mut schedule = Schedule::parse(&format!("hold 0\n{impossible}\n8 8 1 20 f\nend\n")).unwrap();
        assert_eq!(
            schedule.reserve(now, wanted(1, 20.0)).map(|start| start.at),
            Ok(now),
            "{impossible}"
        );
        assert_eq!(
            (schedule.starts().len(), schedule.largest_rate(20.0)),
            (2, 20.0),
            "{impossible}"
        );
    }
}

#[test]
fn a_late_start_counts_for_longer_and_does_not_delay_the_next() {
    let mut schedule = Schedule::default();
    let first = schedule.reserve(0, wanted(1, 20.0)).unwrap();
    schedule.settle(1, made_of(first.at, 1, 9_000), 0);
    assert_eq!(schedule.reserve(9_000, wanted(1, 20.0)).unwrap().at, 50_225);
    let others: Vec<u64> = (0..19)
        .map(|_| {
            schedule
                .reserve(60_000, wanted(1, 20.0))
                .map_or_else(|at| at, |start| start.at)
        })
        .collect();
    assert_eq!(others.last(), Some(&(9_000 + SECOND + MARGIN)));
}

#[test]
fn a_start_that_may_still_be_made_counts_until_it_must_have_been() {
    let mut schedule = Schedule::default();
    let first = schedule.reserve(0, wanted(1, 1.0)).unwrap();
    assert_eq!((first.at, first.until), (0, LATENESS));
    assert_eq!(schedule.next_free(wanted(1, 1.0).pace, 1), LATENESS + SECOND + MARGIN);
    schedule.settle(1, made_of(first.at, 1, 0), 0);
    assert_eq!(schedule.next_free(wanted(1, 1.0).pace, 1), SECOND + STRETCH);
}

#[test]
fn what_is_not_used_is_free_again_and_a_pause_delays_all() {
    let mut schedule = Schedule::default();
    let first = schedule.reserve(0, wanted(1, 20.0)).unwrap();
    let second = schedule.reserve(0, wanted(2, 20.0)).unwrap();
    schedule.settle(1, made_of(second.at, 0, 0), 0);
    assert_eq!(schedule.get(2, second.at), Some(&second), "it is another run's");
    schedule.settle(2, made_of(second.at, 0, 0), 0);
    assert_eq!(schedule.reserve(0, wanted(3, 20.0)).unwrap().at, second.at);
    assert_eq!((schedule.runs(0), first.run), (2, 1));
    schedule.pause_until(500_000);
    assert_eq!(schedule.reserve(0, wanted(1, 20.0)).unwrap().at, 500_000);
}

#[test]
fn under_a_limit_a_schedule_that_has_just_begun_waits_for_what_it_does_not_know() {
    let begun = 5 * SECOND;
    for (limit, free) in [(None, begun), (Some(5.0), begun + SECOND + MARGIN)] {
        let mut schedule = Schedule::begun_at(begun);
        let wanted = Wanted {
            limit,
            ..wanted(1, 5.0)
        };
        let at = |reserved: Result<Start, u64>| reserved.map_or_else(|at| at, |start| start.at);
        assert_eq!(at(schedule.reserve(begun, wanted)), free);
        let later = begun + 2 * SECOND;
        assert_eq!(at(schedule.reserve(later, wanted)), later);
    }
}

#[test]
fn the_newest_starts_are_kept_however_old_they_are() {
    let mut schedule = Schedule::default();
    for at in [1, 2, 3] {
        schedule.insert(Start {
            at,
            until: at,
            count: 1,
            rate: 1.0,
            run: 1,
        });
    }
    schedule.forget(100 * SECOND, 2);
    assert_eq!(
        schedule.starts().iter().map(|start| start.at).collect::<Vec<_>>(),
        [2, 3]
    );
    schedule.forget(3 + KEPT, 0);
    assert_eq!((schedule.starts().len(), schedule.runs(0)), (0, 0));
}

#[test]
fn a_limit_is_for_all_runs_together_whatever_their_rates_and_a_pause_reserves_nothing() {
    let (mut schedule, mut made, mut limit) = (Schedule::default(), Vec::new(), None);
    let mut now = 0;
    while now < 12 * SECOND {
        for run in 1..=3 {
            if now >= 2 * SECOND {
                limit = Some(if now < 6 * SECOND { 5.0 } else { 0.5 });
            }
            let rate: f64 = limit.unwrap_or(20.0);
            // One has a lower rate than the limit.
            let rate = if run == 3 { rate.min(2.0) } else { rate };
            if let Ok(start) = schedule.reserve(
                now,
                Wanted {
                    limit,
                    ..wanted(run, rate)
                },
            ) {
                schedule.settle(run, made_of(start.at, 1, 0), 0);
                made.push(start);
            }
        }
        now += 1000;
    }
    let ahead = 2 * SECOND + MAX_AHEAD;
    let between = |from: u64, to: u64| made.iter().filter(|start| (from..to).contains(&start.at)).count();
    for from in (ahead..12 * SECOND).step_by(1000) {
        assert!(
            between(from, from + SECOND) <= 5,
            "{} from {from}",
            between(from, from + SECOND)
        );
    }
    let whole = between(4 * SECOND, 7 * SECOND);
    assert!(whole >= 14, "{whole}");
    assert_eq!(between(8 * SECOND, 12 * SECOND), 2);

    // A run that does not know of it yet asks again, and in a pause after a second.
    let asked = |schedule: &mut Schedule, limit| {
        schedule.reserve(
            now,
            Wanted {
                limit: Some(limit),
                ..wanted(1, 20.0)
            },
        )
    };
    assert_eq!(asked(&mut schedule, 5.0), Err(now + LATENESS));
    assert_eq!(asked(&mut schedule, 0.0), Err(now + SECOND));
}
