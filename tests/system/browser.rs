//! The page of `zim-batch report --html` in a real browser. Without chromium these tests are skipped with a
//! message; with `ZIM_TEST_REQUIRE_ALL` set they fail. `ZIM_TEST_PICTURES=DIRECTORY` saves pictures of the pages.

mod chromium;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::support::{Answer, Desk, LIST_HEADER, REPORT_HEADER, Server, rows};
use chromium::Chromium;

/// Twenty records per second, some of them not ok, in two runs with a pause of nine hours between them.
fn two_nights(rows: u64) -> String {
    let mut report = format!("{REPORT_HEADER}\n");
    for row in 0..rows {
        let after = row * 50 + if row > rows / 2 { 9 * 3_600_000 } else { 0 };
        let (outcome, code, http, message) = match row % 1000 {
            0..10 => ("outside", "660800002", "200", "no such conversation"),
            10..13 => ("failed", "", "503", "HTTP 503"),
            13 => ("invalid", "", "", "user is empty"),
            14 => ("skipped", "", "", "the same as line 2"),
            _ => ("ok", "0", "200", "success"),
        };
        let latency = 30 + row * 7919 % 40 + if row % 97 == 0 { 2000 } else { 0 };
        let user = row * 31 % 5000;
        let _ = writeln!(
            report,
            "{},u{user},c{row},0,{outcome},{code},{http},{message},1,1,{latency},{}",
            row + 2,
            at(after)
        );
    }
    report
}

/// The log of their runs. The second one was killed before all rows were sent.
fn log_of_two_nights(rows: u64) -> String {
    let begin = |run: u64, after: u64| {
        format!(
            "{{\"event\":\"begin\",\"at\":\"{}\",\"run\":\"{run}\",\"host\":\"machine-{run}.{}\",\"version\":\"0.1.0\",\
             \"app_id\":1234567890,\"endpoint\":\"https://zim-api.zego.im/\",\"input\":\"/{}rows.csv\",\"total\":{},\
             \"already_done\":{}}}\n",
            at(after),
            "example.".repeat(12),
            "directory/".repeat(20),
            rows + 1000,
            run * (rows / 2 + 1)
        )
    };
    let end = format!(
        "{{\"event\":\"end\",\"at\":\"{}\",\"run\":\"0\",\"exit\":130,\"stopped\":\"SIGINT\"}}\n",
        at(rows / 2 * 50 + 10)
    );
    begin(0, 0) + &end + &begin(1, 9 * 3_600_000)
}

fn at(after: u64) -> String {
    let (hour, minute) = (after / 3_600_000, after / 60_000 % 60);
    format!(
        "2026-11-{:02}T{:02}:{minute:02}:{:02}.{:03}Z",
        24 + hour / 24,
        hour % 24,
        after / 1000 % 60,
        after % 1000
    )
}

fn hostile() -> String {
    let ids = [
        "<script>alert(1)</script>",
        "</title><script>alert(2)</script>",
        "\"\" onload=alert(3) x=\"\"",
        "<img src=http://127.0.0.1:9/x>",
        "=cmd|' /C calc'!A0",
        "\u{1b}[31mred\u{7}",
        "\u{202e}gnp.exe",
        "<!--",
        "]]>",
        "{{ nonce }}",
        "用户\u{200b}甲",
        "</svg></style></script>",
    ];
    let mut report = format!("{REPORT_HEADER}\n");
    for (index, id) in ids.iter().enumerate() {
        let _ = writeln!(
            report,
            "{index},\"{id}\",\"{id}\",0,failed,,,\"{id}\",\"{id}\",1,1,{}",
            at(index as u64)
        );
    }
    report
}

fn reports() -> Vec<(&'static str, String)> {
    let failed: String = (0..500)
        .map(|row| {
            format!(
                "{row},u{row},c,0,failed,51102,200,no such user,1,1,40,{}\n",
                at(row * 50)
            )
        })
        .collect();
    let listed: String = (0..500)
        .map(|user| format!("{user},u{user},ok,7,0,200,success,1,2,40,{}\n", at(user * 100)))
        .collect();
    vec![
        ("big", two_nights(50_000)),
        ("pause", two_nights(8000)),
        ("hostile", hostile()),
        (
            "one",
            format!("{REPORT_HEADER}\n2,u,c,0,ok,0,200,success,1,1,40,{}\n", at(0)),
        ),
        ("none", format!("{REPORT_HEADER}\n")),
        ("failed", format!("{REPORT_HEADER}\n{failed}")),
        ("list", format!("{LIST_HEADER}\n{listed}")),
        (
            "untimed",
            format!("{REPORT_HEADER}\n2,u,c,0,invalid,,,user is empty,,0,,\n"),
        ),
    ]
}

/// The charts: the width of each, the size of its smallest text, how many parts it has, and how long its text alternative is.
const CHARTS: &str = "[...document.querySelectorAll('.chart')].map(chart => [chart.getBoundingClientRect().width,
    Math.min(...[...chart.querySelectorAll('text')].map(text =>
        parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)),
    chart.querySelectorAll('path, .h').length, chart.getAttribute('aria-label').length])";

/// What has content that is cut off, and rows of cards that are not filled.
const CUT_OFF: &str = "[...document.querySelectorAll('.table, td, li, pre, figure')]
    .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.outerHTML.slice(0, 200))
    .concat([...document.querySelectorAll('.cards')].filter(cards => {
        const lines = Object.values(Object.groupBy(cards.children, card => card.offsetTop));
        const width = line => line.reduce((sum, card) => sum + card.offsetWidth + 8, -8);
        return lines.some(line => Math.abs(width(line) - cards.clientWidth) > 4)
            || lines.some((line, index) => line.length === 1 && index > 0);
    }).map(() => 'a row of cards with a gap, or with one card below others'))";

#[test]
fn pages_open_without_messages_or_requests_and_show_their_charts_at_any_width_in_light_and_dark() {
    let Some(mut chromium) = Chromium::start() else { return };
    let desk = Desk::new();
    for (name, report) in reports() {
        desk.write("out.csv", report);
        // With it, there is a card for what is left, and a table of the runs.
        desk.write(
            "out.runs.jsonl",
            if name == "pause" {
                log_of_two_nights(8000)
            } else {
                String::new()
            },
        );
        let page = format!("{name}.html");
        desk.zim_batch(["report", "out.csv", "--html", &page])
            .run()
            .assert_status(0);
        let path = desk.path(&page);
        assert!(fs::metadata(&path).unwrap().len() < 1_000_000);
        let mut backgrounds = Vec::new();
        for (width, is_dark) in [1200, 800, 400]
            .into_iter()
            .flat_map(|width| [(width, false), (width, true)])
        {
            let incidents = chromium.open(&path, width, is_dark);
            assert!(incidents.is_empty(), "{name}: {incidents:#?}");
            let page_width = chromium.evaluate("document.documentElement.scrollWidth");
            assert!(
                page_width.as_u64().unwrap() <= width.into(),
                "{name}: {page_width} on {width}"
            );
            let charts = chromium.evaluate(CHARTS);
            let charts = charts.as_array().unwrap();
            let expected = match name {
                "none" | "untimed" => 0,
                // Within a second there is nothing to compare, and where all have the same outcome.
                "one" | "hostile" => 1,
                "list" => 3,
                "failed" => 4,
                _ => 5,
            };
            assert_eq!(charts.len(), expected, "{name}: {charts:?}");
            for chart in charts {
                let [chart_width, text_size] = [0, 1].map(|index| chart[index].as_f64().unwrap());
                assert!(chart_width > 300.0 && text_size >= 13.0, "{name}: {charts:?}");
                assert!(chart[2].as_u64().unwrap() > 1, "{name}: {charts:?}");
                assert!(chart[3].as_u64().unwrap() > 20, "{name}: a chart says nothing in words");
            }
            let cut_off = chromium.evaluate(CUT_OFF);
            assert_eq!(cut_off, serde_json::json!([]), "{name} at {width}");
            backgrounds.push(chromium.evaluate("getComputedStyle(document.body).backgroundColor"));
            let picture = format!("{name}-{width}-{}", if is_dark { "dark" } else { "light" });
            chromium.picture(&picture);
        }
        assert_ne!(backgrounds[0], backgrounds[1], "{name}: light and dark look alike");
        let scripts = chromium.evaluate("document.scripts.length");
        assert_eq!(scripts, 1, "{name}: a script of the report's");
    }
}

#[test]
fn tooltips_of_charts_work_with_and_without_scripts() {
    let Some(mut chromium) = Chromium::start() else { return };
    let desk = Desk::new();
    desk.write("out.csv", two_nights(8000));
    desk.zim_batch(["report", "out.csv", "--html", "out.html"])
        .run()
        .assert_status(0);
    assert!(chromium.open(&desk.path("out.html"), 1200, false).is_empty());
    let titles = chromium.evaluate("document.querySelectorAll('.plot .h title').length");
    assert!(titles.as_u64().unwrap() > 100, "{titles}");
    let place = chromium.evaluate(
        "(async () => { const part = document.querySelector('.plot .h'); part.scrollIntoView({block: 'center'});
            // The scroll event is sent with the next frame.
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
            const box = part.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] })()",
    );
    chromium.point_at(place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    let tip =
        chromium.evaluate("document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent");
    let tip = tip.as_str().unwrap();
    assert!(tip.contains("pause of") || tip.contains(" rows, "), "{tip:?}");
}

#[test]
fn a_message_or_a_request_of_a_page_would_be_detected() {
    let Some(mut chromium) = Chromium::start() else { return };
    let desk = Desk::new();
    desk.write("page.html", "<!doctype html><script>console.log('hello')</script>");
    assert_eq!(chromium.open(&desk.path("page.html"), 1200, false).len(), 1);
    desk.write("page.html", "<!doctype html><img src='http://127.0.0.1:9/x'>");
    assert!(!chromium.open(&desk.path("page.html"), 1200, false).is_empty());
    desk.write("page.html", "<!doctype html><link rel=stylesheet href='other.css'>");
    assert!(!chromium.open(&desk.path("page.html"), 1200, false).is_empty());
}

#[test]
fn the_page_of_a_run_under_way_reloads_itself_until_the_run_has_ended() {
    let desk = Desk::new();
    let server = Server::start(|request, _| match request.user() == "u5" {
        true => Answer::Hang(Duration::from_secs(60)),
        false => Answer::Code(0, "success"),
    });
    let mut run = desk.clear(&server, rows(9)).flag("--html", "out.html").spawn();
    run.wait_until("the page", || desk.has("out.html"));
    let page = desk.read("out.html");
    assert!(page.contains("Under way: 8 of 9 rows"));
    // It is not called finished by others either.
    desk.zim_batch(["report", "out.csv", "--html", "other.html"])
        .run()
        .assert_status(0);
    let other = desk.read("other.html");
    assert!(other.contains("Under way: 8 of 9 rows") && !other.contains("http-equiv=\"refresh\""));
    run.signal("INT");
    run.signal("INT");
    run.wait().assert_status(130);
    let last = desk.read("out.html");
    assert!(last.contains("Of 9 rows, 1 has no record yet") && !last.contains("http-equiv=\"refresh\""));

    let Some(mut chromium) = Chromium::start() else { return };
    let impatient = page.replace(
        "http-equiv=\"refresh\" content=\"60\"",
        "http-equiv=\"refresh\" content=\"1\"",
    );
    assert_ne!(page, impatient);
    desk.write("out.html", impatient);
    assert!(chromium.open(&desk.path("out.html"), 1200, false).is_empty());
    desk.write("out.html", &last);
    // Nothing but the page's own file is loaded.
    assert!(chromium.wait_for_reload(&desk.path("out.html")).is_empty());
    let text = chromium.evaluate("document.querySelector('.verdict').textContent");
    assert!(
        text.as_str().unwrap().contains("Of 9 rows, 1 has no record yet"),
        "{text}"
    );
}
