//! The cost of each stage for one row: `cargo bench`. `benches/compare.py` measures the whole program.

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use zim_batch::client::{sign, verdict};
use zim_batch::journal::{IfExists, Journal, Report};
use zim_batch::limiter::Limiter;
use zim_batch::row::{Outcome, Record};
use zim_batch::rows::{Format, Rows, Selection, check::check_rows};

fn main() {
    divan::main();
}

#[divan::bench]
fn signing_a_request() -> sign::Signature {
    sign::sign(
        black_box(12345),
        &sign::nonce(),
        black_box("9193cc662a4c0ec135ec71fb57194b38"),
        black_box(1615186943),
    )
}

#[divan::bench]
fn judging_an_answer() -> verdict::Verdict {
    let body = br#"{"Code":0,"Message":"success","RequestId":"343649807833778782"}"#;
    verdict::judge(black_box(200), black_box(body), None)
}

#[divan::bench]
fn passing_the_gate(bencher: Bencher) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let limiter = Limiter::new(1_000_000.0.try_into().expect("a rate"));
    bencher.bench_local(|| runtime.block_on(limiter.ready()));
}

const ROWS: usize = 10_000;

fn csv() -> String {
    let rows = (0..ROWS).map(|row| format!("user{:06},conv{row:07},{}\n", row % 500, row % 2 * 2));
    "user,conv,type\n".to_owned() + &rows.collect::<String>()
}

#[divan::bench]
fn reading_ten_thousand_rows(bencher: Bencher) {
    let csv = csv();
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::of_str(&csv))
        .with_inputs(|| std::io::Cursor::new(csv.clone()))
        .bench_values(|csv| {
            let rows = Rows::from_reader(Box::new(csv), "bench", &Format::default()).expect("a header");
            rows.filter(Result::is_ok).count()
        });
}

#[divan::bench]
fn checking_ten_thousand_rows(bencher: Bencher) {
    let csv = csv();
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::of_str(&csv))
        .with_inputs(|| std::io::Cursor::new(csv.clone()))
        .bench_values(|csv| {
            let rows = Rows::from_reader(Box::new(csv), "bench", &Format::default()).expect("a header");
            check_rows(rows, &Selection::default()).expect("readable").rows
        });
}

const RECORDS: u64 = 64;

#[divan::bench]
fn writing_sixty_four_records_at_once(bencher: Bencher) {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = (directory.path().join("out.csv"), directory.path().join("outside.csv"));
    let mut report = Report::open(&paths.0, &paths.1, IfExists::Refuse, false).expect("a report");
    let record = |line| {
        let key = ["user000001", "conv0000001", "0"].map(str::to_owned);
        let mut record = Record::new(line, key, Outcome::Ok, "success".into());
        (record.code, record.http) = (Some(0), Some(200));
        record.request_id = "343649807833778782".into();
        (record.attempts, record.latency) = (1, Some(Duration::from_millis(31)));
        record
    };
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        for line in 0..RECORDS {
            report.push(&record(line));
        }
        report.commit().1.expect("room on the disk");
    });
}
