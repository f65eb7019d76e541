//! `report --csv`: the records with some outcomes as a file of their own.

use std::fs;

use crate::support::world::World;
use crate::support::{Answer, Desk, Server, list};

#[test]
fn records_with_an_outcome_are_copied_as_they_are_with_the_other_columns_of_the_rows() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "bad" => Answer::Code(660_600_001, "no, such group"),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let rows = "note,user,conv,type,team\nfirst,ann,a,0,red\n\"second, here\",bad,\"b,b\",2,blue\nthird,,c,0,green\n";
    desk.clear(&server, rows).run().assert_status(3);
    let report = desk.read("out.csv");
    let header = report.lines().next().unwrap();
    let record = |user: &str| report.lines().find(|line| line.contains(user)).unwrap();

    let copy = |args: &[&str]| {
        let call = desk.zim_batch(["report", "out.csv", "--csv", "copy.csv"].iter().chain(args));
        let outcome = call.run();
        outcome.assert_status(0);
        desk.read("copy.csv")
    };
    assert_eq!(copy(&["--only", "failed"]), format!("{header}\n{}\n", record(",bad,")));
    let mut all: Vec<String> = copy(&[]).lines().map(str::to_owned).collect();
    let mut expected: Vec<&str> = report.lines().collect();
    all.sort();
    expected.sort_unstable();
    assert_eq!(all, expected);
    let copied = copy(&["--only", "failed,invalid", "--rows", "rows.csv"]);
    let mut lines: Vec<&str> = copied.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            format!("{},\"second, here\",blue", record(",bad,")),
            format!("{},third,green", record(",invalid,")),
            format!("{header},note,team"),
        ]
    );

    for (args, said) in [
        (&["out.csv", "--csv", "rows.csv"][..], "rows.csv"),
        (&["out.csv", "--csv", "out.csv"], "out.csv"),
        (&["out.csv", "--only", "failed"], "--csv"),
        (&["-", "--csv", "new.csv"], "--csv"),
        (&["out.csv", "--csv", "-"], "standard output"),
        (
            &["out.csv", "--csv", "nowhere/copy.csv"],
            "nowhere/copy.csv: its directory",
        ),
    ] {
        let outcome = desk.zim_batch(["report"].iter().chain(args)).run();
        outcome.assert_status(2).assert_says(&[said]);
        assert_eq!(outcome.stdout, "");
    }
    assert_eq!(desk.read("rows.csv"), rows);
}

#[test]
fn records_of_users_are_copied_too() {
    let server = Server::start(|_, _| Answer::Code(660_500_002, "FromUserId is not registered"));
    let desk = Desk::new();
    list::list(&desk, &server, "user,mail\nann,ann@example.org\n")
        .run()
        .assert_status(3);
    let args = [
        "report",
        "rows.list.csv",
        "--only",
        "failed",
        "--csv",
        "copy.csv",
        "--rows",
        "users.csv",
    ];
    desk.zim_batch(args).run().assert_status(0);
    let copy = desk.read("copy.csv");
    assert!(copy.lines().next().unwrap().ends_with(",finished_at,mail"), "{copy}");
    assert!(copy.lines().nth(1).unwrap().ends_with(",ann@example.org"), "{copy}");
}

/// A copy looks like a report, but only a copy is replaced.
#[test]
fn no_file_of_a_run_is_replaced_by_a_copy_or_a_page() {
    let (desk, world) = (Desk::new(), World::of([("ann", 2)]));
    let server = world.serve();
    desk.write("users.csv", "user\nann\ngone\n");
    let call = |users: &str, report: &str| {
        let words = [
            "clear",
            "--users",
            users,
            "--report",
            report,
            "--endpoint",
            &server.url(),
        ];
        list::with_app(desk.zim_batch(words))
    };
    call("users.csv", "out.csv").run().assert_status(3);
    let copy = "report out.list.csv --only failed --csv copy.csv";
    desk.zim_batch(copy.split(' ')).run().assert_status(0);
    call("copy.csv", "again.csv")
        .flag("--only", "failed")
        .run()
        .assert_status(3);
    fs::remove_file(desk.path("again.outside.csv")).unwrap();

    let names = [
        "out.csv",
        "out.list.csv",
        "out.outside.csv",
        "out.rows.csv",
        "out.runs.jsonl",
    ];
    let read = || names.map(|name| desk.read(name));
    let before = read();
    for file in names.into_iter().chain([
        "again.csv",
        "again.list.csv",
        "copy.csv",
        "again.outside.csv",
        "users.csv",
    ]) {
        for (report, flag) in [
            ("out.csv", "--csv"),
            ("out.list.csv", "--csv"),
            ("again.csv", "--csv"),
            ("again.csv", "--html"),
        ] {
            // A copy that another run has read can be made again.
            if ["copy.csv", "again.outside.csv"].contains(&file) && report != "again.csv" {
                continue;
            }
            let outcome = desk.zim_batch(["report", report, flag, file]).run();
            outcome.assert_status(2).assert_says(&[flag, file]);
            assert_eq!(outcome.stdout, "");
        }
    }
    assert_eq!(read(), before);
    desk.zim_batch(copy.split(' ')).run().assert_status(0);
}
