//! The log of runs, whole, torn and of other files.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn log_in(directory: &Path) -> PathBuf {
    RunLog::path_of(&directory.join("out.csv"))
}

fn begin(path: &Path, keep_earlier: bool) -> io::Result<(RunBegin, RunLog)> {
    let begin = RunBegin {
        total: Some(7),
        endpoint: "http://127.0.0.1/".into(),
        ..RunBegin::now()
    };
    let log = RunLog::begin(path.to_owned(), &begin, keep_earlier)?;
    Ok((begin, log))
}

#[derive(Serialize)]
struct Counts {
    rows: u64,
    ok: u64,
    invalid: u64,
    codes: [u64; 2],
}

const COUNTS: Counts = Counts {
    rows: 9,
    ok: 3,
    invalid: 1,
    codes: [1, 2],
};

#[test]
fn runs_are_read_as_they_were_written_each_with_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = log_in(directory.path());
    assert_eq!(read_runs(&path), None);
    let (first, log) = begin(&path, false).unwrap();
    log.end(130, Some("SIGINT"), false, Some(&COUNTS)).unwrap();
    let (second, _) = begin(&path, true).unwrap();
    let runs = read_runs(&path).unwrap();
    assert_eq!((&runs[0].begin, &runs[1].begin, runs.len()), (&first, &second, 2));
    let end = runs[0].end.as_ref().unwrap();
    assert_eq!((end.exit, end.stopped.as_deref()), (130, Some("SIGINT")));
    assert_eq!(end.summary.map(|summary| summary.recorded()), Some(4));
    assert_eq!(runs[1].end, None);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, OWNER_ONLY);

    let (third, _) = begin(&path, false).unwrap();
    assert_eq!(
        read_runs(&path).unwrap(),
        [LoggedRun {
            begin: third,
            end: None
        }]
    );
}

#[test]
fn what_is_torn_or_unknown_is_skipped_and_costs_no_other_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = log_in(directory.path());
    let (first, log) = begin(&path, false).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    for torn in [
        &whole[..whole.len() / 2],
        "\0\0\0",
        "{\"event\":\"pause\"}",
        "nonsense\n\n\u{fffd}",
    ] {
        fs::write(&path, format!("{whole}{torn}")).unwrap();
        log.end(0, None, false, Some(&COUNTS)).unwrap();
        let runs = read_runs(&path).unwrap();
        assert_eq!((runs.len(), &runs[0].begin), (1, &first), "{torn:?}");
        assert_eq!(runs[0].end.as_ref().map(|end| end.exit), Some(0), "{torn:?}");
    }
    fs::write(&path, &whole[1..]).unwrap();
    log.end(0, None, false, None::<&Counts>).unwrap();
    assert_eq!(read_runs(&path), None, "an end without a beginning");
}

#[test]
fn a_torn_first_line_is_replaced_so_that_every_later_run_knows_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = log_in(directory.path());
    for torn in ["", "{", "{\"event\":"] {
        fs::write(&path, torn).unwrap();
        let (first, _) = begin(&path, true).unwrap();
        let (second, _) = begin(&path, true).unwrap();
        let runs = read_runs(&path).unwrap();
        assert_eq!([&runs[0].begin, &runs[1].begin], [&first, &second], "{torn:?}");
    }
}

#[test]
fn a_file_that_is_no_log_of_runs_is_left_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = log_in(directory.path());
    for content in ["mine\n", "{\"events\":1}\n"] {
        fs::write(&path, content).unwrap();
        for keep_earlier in [true, false] {
            let error = begin(&path, keep_earlier).unwrap_err();
            assert!(error.to_string().contains("left untouched"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
    for start_of_a_log in ["", "{\"ev", "{\"event\":\"be"] {
        fs::write(&path, start_of_a_log).unwrap();
        begin(&path, true).unwrap();
        assert_eq!(read_runs(&path).unwrap().len(), 1, "{start_of_a_log:?}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(begin(&path, true).is_err());
}
