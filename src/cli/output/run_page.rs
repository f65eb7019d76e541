//! The page of a run's report: written anew about once a minute while the run is under way, and at its end.
//!
//! Reading a long report takes a while. It is read on a thread of its own, and at most 2 % of the time, so the run is not
//! slowed down.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use zim_batch::analysis::{Analysis, Present};
use zim_batch::event::Event;
use zim_batch::limiter::RateLimit;
use zim_batch::page::{self, Page};
use zim_batch::run::summary::Summary;
use zim_batch::run::{Observer, Status};
use zim_batch::stop::StopReason;
use zim_batch::text::with_causes;

use crate::cli::args::Given;
use crate::cli::errors::Error;
use crate::cli::output::next;
use crate::cli::output::print::print_error;
use crate::cli::output::remaining::Remaining;

/// How often the page is written, if that is quick.
const INTERVAL: Duration = Duration::from_secs(60);

/// When it is written for the first time, if that is quick.
const FIRST: Duration = Duration::from_secs(5);

/// A page that took some time to write is not written again before this many times that time: 2 %.
const REST: u32 = 50;

/// A cautious guess at how many bytes of a report are read in a second, until it is known how long it takes.
const BYTES_PER_SECOND: u64 = 20_000_000;

/// The page of a run.
#[derive(Debug, Clone)]
pub struct RunPage {
    path: PathBuf,
    report: PathBuf,
    /// The command that resumes the run.
    resume: String,
    /// The command that starts it again.
    start_again: String,
    /// The flags for a new run, as words for a shell.
    flags: String,
    /// Invalid rows need no correction.
    ignore_invalid: bool,
    /// The run has ended. Locked while the page is put in place, so the last one stays.
    has_ended: Arc<Mutex<bool>>,
}

impl RunPage {
    /// The page of a run with this report and command line. Refuses to replace a file that is not a page.
    ///
    /// # Errors
    /// Why the page can't be written there.
    pub fn new(path: PathBuf, report: PathBuf, given: &Given, ignore_invalid: bool) -> Result<RunPage, Error> {
        page::check_target(&path, [])?;
        Ok(RunPage {
            path,
            report,
            resume: next::without_limit(given),
            start_again: next::overwrite(given),
            flags: next::line(next::app_and_rate(given)),
            ignore_invalid,
            has_ended: Arc::default(),
        })
    }

    /// Writes the page while the run is under way.
    pub fn writer(&self) -> PageWriter {
        let length = fs::metadata(&self.report).map_or(0, |metadata| metadata.len());
        let takes = Duration::from_secs(length / BYTES_PER_SECOND);
        // A pipe or a device gets the page once, at the end.
        let is_file = self.path.metadata().map_or(true, |metadata| metadata.is_file());
        PageWriter {
            page: self.clone(),
            next: is_file.then(|| Instant::now() + rest(FIRST, takes)),
            interval: INTERVAL,
            present: Present::default(),
            writing: None,
            has_warned: false,
        }
    }

    /// Writes the page of the run that has just ended. Without its summary, the report says what there is to do. If that
    /// fails, an error is printed, but the exit status remains that of the run.
    pub fn write_last(&self, summary: Option<&Summary>) {
        *self.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let write = || {
            let analysis = self.read()?;
            match summary {
                Some(summary) => self.write(&analysis, summary, None),
                None => self.write(&analysis, &analysis.summary(), None),
            }
        };
        if let Err(error) = write() {
            print_error(&format!(
                "{}: the page can't be written: {error}. The report is not affected. To write its page: {} --html FILE",
                self.path.display(),
                next::report(&self.report)
            ));
        }
    }

    /// Writes the page of a run that is under way, unless it has ended meanwhile.
    fn write_meanwhile(&self, interval: Duration, present: Present) -> Result<(), String> {
        let mut analysis = self.read()?;
        analysis.present = present;
        let has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_ended || analysis.under_way.is_none() {
            return Ok(());
        }
        self.write(&analysis, &analysis.summary(), Some(interval))
    }

    fn read(&self) -> Result<Analysis, String> {
        Analysis::from_file(&self.report).map_err(|error| with_causes(&error))
    }

    /// `summary` is what there is to do by.
    fn write(&self, analysis: &Analysis, summary: &Summary, rewritten: Option<Duration>) -> Result<(), String> {
        let (report, resume) = (self.report.clone(), Some(self.resume.clone()));
        let mut remaining = Remaining::new(report, summary, resume, self.flags.clone());
        if matches!(summary.stopped, Some(StopReason::AllRejected { .. })) {
            remaining.start_again = Some(self.start_again.clone());
        }
        if self.ignore_invalid {
            remaining.without_invalid();
        }
        if rewritten.is_some() {
            remaining.without_not_run();
        }
        let page = Page {
            report: &self.report.display().to_string(),
            analysis,
            next: &remaining.steps(),
            rewritten,
        };
        page.write(&self.path).map_err(|error| error.to_string())
    }
}

/// Writes the page now and then, as an observer of the run.
#[derive(Debug)]
pub struct PageWriter {
    page: RunPage,
    /// When it is written next; `None` if it is written at the end only.
    next: Option<Instant>,
    interval: Duration,
    /// What the run is doing.
    present: Present,
    /// The thread that writes it, and since when.
    writing: Option<(Instant, JoinHandle<Result<(), String>>)>,
    has_warned: bool,
}

impl PageWriter {
    /// Begins to write the page, if it is time.
    fn poll(&mut self, now: Instant) {
        if let Some((began, writing)) = self.writing.take_if(|(_, writing)| writing.is_finished()) {
            let took = now - began;
            self.interval = rest(INTERVAL, took);
            self.next = Some(now + self.interval);
            let result = writing.join().unwrap_or_else(|_| Err("a bug in zim-batch".to_owned()));
            result.unwrap_or_else(|error| self.warn(&error));
        }
        if self.writing.is_some() || self.next.is_none_or(|next| now < next) {
            return;
        }
        let (page, interval, present) = (self.page.clone(), self.interval, self.present.clone());
        let writing = thread::Builder::new()
            .name("page".into())
            .spawn(move || page.write_meanwhile(interval, present));
        match writing {
            Ok(writing) => self.writing = Some((now, writing)),
            Err(error) => {
                self.next = Some(now + INTERVAL);
                self.warn(&error.to_string());
            }
        }
    }

    fn warn(&mut self, error: &str) {
        if !self.has_warned {
            self.has_warned = true;
            tracing::warn!(
                "{}: the page can't be written: {error}. The run continues, and writes the page again later",
                self.page.path.display()
            );
        }
    }
}

impl Observer for PageWriter {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Held { why } => self.present.on_hold = Some(why.clone()),
            Event::Released => self.present.on_hold = None,
            _ => {}
        }
    }

    fn tick(&mut self, status: &Status<'_>) {
        self.present.limit = match status.limit {
            RateLimit::Quota(limit) => Some(limit),
            _ => None,
        };
        self.poll(Instant::now());
    }
}

/// How long the page is not written again.
fn rest(interval: Duration, took: Duration) -> Duration {
    interval.max(took.saturating_mul(REST))
}

#[cfg(test)]
mod tests {
    use zim_batch::limiter::quota::Limit;

    use super::*;
    use crate::cli::args::Cli;

    const RECORD: &str = "2,u,c,0,ok,0,200,success,r,1,40,2026-11-25T03:00:00.000Z\n";
    const HEADER: &str = "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n";

    /// A run's report with one record, and its page.
    struct Desk {
        directory: tempfile::TempDir,
        report: fs::File,
        page: RunPage,
    }

    impl Desk {
        fn new() -> Desk {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("out.csv");
            fs::write(&path, [HEADER, RECORD].concat()).unwrap();
            let report = fs::File::options().append(true).open(&path).unwrap();
            report.try_lock().unwrap();
            let given = Cli::from_words(["zim-batch", "clear", "rows.csv"]).unwrap().given;
            let page = RunPage::new(directory.path().join("page.html"), path, &given, false).unwrap();
            Desk {
                directory,
                report,
                page,
            }
        }

        fn text(&self) -> Option<String> {
            fs::read_to_string(self.directory.path().join("page.html")).ok()
        }
    }

    /// Polls, and waits for the page if it is being written.
    fn poll(writer: &mut PageWriter, now: Instant) {
        writer.poll(now);
        while writer
            .writing
            .as_ref()
            .is_some_and(|(_, writing)| !writing.is_finished())
        {
            thread::sleep(Duration::from_millis(2));
        }
        // How long it took is not known to this clock.
        writer.poll(now);
    }

    #[test]
    fn a_page_is_written_now_and_then_while_the_run_is_under_way_and_the_last_one_does_not_reload() {
        let desk = Desk::new();
        let mut writer = desk.page.writer();
        let began = Instant::now();
        poll(&mut writer, began);
        assert_eq!(desk.text(), None);
        poll(&mut writer, began + FIRST * 2);
        let first = desk.text().expect("a page");
        assert!(first.contains("<meta http-equiv=\"refresh\" content=\"60\">"));
        assert!(first.contains("Under way: 1 row,") && first.contains("is written anew about once a minute"));
        std::io::Write::write_all(&mut &desk.report, RECORD.as_bytes()).unwrap();
        poll(&mut writer, began + FIRST * 2 + INTERVAL - Duration::from_secs(1));
        assert_eq!(desk.text().as_ref(), Some(&first));
        poll(&mut writer, began + FIRST * 2 + INTERVAL);
        assert!(desk.text().is_some_and(|page| page.contains("Under way: 2 rows")));
        desk.report.unlock().unwrap();
        desk.page.write_last(None);
        let last = desk.text().expect("a page");
        assert!(!last.contains("http-equiv=\"refresh\"") && !last.contains("nder way"));
        // What was begun before does not replace it.
        desk.report.try_lock().unwrap();
        poll(&mut writer, began + INTERVAL * 9);
        assert_eq!(desk.text(), Some(last));
    }

    #[test]
    fn a_page_says_that_the_run_is_on_hold_or_paused_and_not_that_all_is_well() {
        let desk = Desk::new();
        let mut writer = desk.page.writer();
        let mut at = Instant::now();
        let mut written = |writer: &mut PageWriter| {
            at += INTERVAL;
            poll(writer, at);
            desk.text().expect("a page")
        };
        assert!(written(&mut writer).contains("Under way: 1 row, and all is well so far"));
        let why = "HTTP 503".to_owned();
        writer.event(&Event::Held { why });
        let page = written(&mut writer);
        assert!(page.contains("<p>Under way: 1 row; on hold: HTTP 503</p>"), "{page}");
        assert!(
            page.contains(", and is on hold: HTTP 503") && page.contains("\"verdict warn\""),
            "{page}"
        );
        writer.event(&Event::Released);
        writer.present.limit = Some(Limit::new(None, None));
        let page = written(&mut writer);
        assert!(
            page.contains(
                "<p>Under way: 1 row; paused by 'zim-batch quota'</p>"
                    .replace('\'', "&#39;")
                    .as_str()
            ),
            "{page}"
        );
        writer.present.limit = None;
        assert!(written(&mut writer).contains("and all is well so far"));
    }

    #[test]
    fn at_most_one_fiftieth_of_the_time_goes_into_pages() {
        let wait = |millis| rest(INTERVAL, Duration::from_millis(millis));
        assert_eq!(
            [0, 1200, 1201, 20_000].map(wait),
            [60_000, 60_000, 60_050, 1_000_000].map(Duration::from_millis)
        );
        // The first page of a long report waits too, although it is not known yet how long it takes.
        let desk = Desk::new();
        desk.report.set_len(10_000_000_000).unwrap();
        let writer = desk.page.writer();
        assert!(
            writer
                .next
                .is_some_and(|next| next > Instant::now() + Duration::from_secs(20_000))
        );
        // What a page took to write counts.
        let desk = Desk::new();
        let mut writer = desk.page.writer();
        let began = Instant::now() + FIRST * 2;
        writer.poll(began);
        while !writer.writing.as_ref().unwrap().1.is_finished() {
            thread::sleep(Duration::from_millis(2));
        }
        let done = began + Duration::from_secs(7);
        writer.poll(done);
        assert_eq!(writer.next, Some(done + Duration::from_secs(350)));
    }

    #[test]
    fn a_page_that_can_t_be_written_is_tried_again_and_one_for_a_pipe_is_written_at_the_end_only() {
        let desk = Desk::new();
        let mut writer = desk.page.writer();
        fs::write(desk.directory.path().join("page.html"), "something else").unwrap();
        let began = Instant::now() + FIRST * 2;
        poll(&mut writer, began);
        assert!(writer.has_warned);
        fs::remove_file(desk.directory.path().join("page.html")).unwrap();
        poll(&mut writer, began + INTERVAL);
        assert!(desk.text().is_some());
        let to_device = RunPage {
            path: "/dev/null".into(),
            ..desk.page.clone()
        };
        assert_eq!(to_device.writer().next, None);
    }
}
