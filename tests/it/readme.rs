//! README and the documents: what they print to be typed works as printed.
//!
//! Blocks marked `sh` are run, all of a document in one shell, against `zim-batch simulate`; `makefile` is what `make` finds
//! there. Blocks that can't be run here have another mark (`sh by-hand`, `crontab`, `ini`; `sh container` is run by
//! `packaging/test-container`); their commands, and those within the text, have only flags that exist.
//! The Chinese documents have the same blocks as the English ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::program;

const PROGRAM: &str = env!("CARGO_BIN_EXE_zim-batch");
const SUBCOMMANDS: [&str; 10] = [
    "config",
    "clear",
    "list",
    "check",
    "report",
    "simulate",
    "quota",
    "codes",
    "completions",
    "man",
];

/// A fenced block: the words after its fence, the line it begins on, and its text.
#[derive(Debug)]
struct Block {
    marks: Vec<String>,
    line: usize,
    text: String,
}

impl Block {
    fn is_run(&self) -> bool {
        self.marks == ["sh"]
    }

    /// The text without comments and empty lines.
    fn code(&self) -> String {
        let code = self.text.lines().map(|line| {
            let end = ["# ", "// "]
                .iter()
                .filter_map(|sign| line.find(sign))
                .filter(|&at| line[..at].ends_with(' ') || at == 0)
                .min();
            line[..end.unwrap_or(line.len())].trim_end()
        });
        code.filter(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

fn read(document: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn blocks(document: &str) -> Vec<Block> {
    let text = read(document);
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, number) in text.lines().zip(1..) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(marks), None) => {
                open = Some(Block {
                    marks: marks.split_whitespace().map(str::to_owned).collect(),
                    line: number,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document}: a block without an end");
    blocks
}

/// The text without its blocks.
fn prose(document: &str) -> String {
    let mut is_inside = false;
    let text = read(document);
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// README and what is in docs, without the Chinese documents.
fn english() -> Vec<String> {
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("the directory");
    let names = docs.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut documents: Vec<_> = names
        .filter(|name| name.ends_with(".md") && !name.contains("zh-CN"))
        .map(|name| format!("docs/{name}"))
        .collect();
    documents.push("README.md".into());
    documents
}

/// `zim-batch simulate`, killed when dropped.
struct Simulator {
    child: Child,
    endpoint: String,
}

impl Simulator {
    fn start(directory: &Path) -> Simulator {
        let mut child = Command::new(PROGRAM)
            .args(["simulate", "--app-id", "1234567890", "--secret-file", ".zim-secret"])
            .args(["--conversations", "world.csv", "--cap", "0"])
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut said = String::new();
        let stderr = child.stderr.as_mut().expect("it is a pipe");
        BufReader::new(stderr).read_line(&mut said).expect("it is UTF-8");
        let address = said
            .split_whitespace()
            .find_map(|word| word.strip_prefix("http://127.0.0.1:"));
        let port = address
            .unwrap_or_else(|| panic!("no address: {said}"))
            .trim_end_matches('/');
        Simulator {
            child,
            endpoint: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A directory with the program, the secret and a list of users, as the documents expect; and what the simulator knows.
fn desk() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let users = ["alice", "bob", "carol"];
    let conversations = users
        .iter()
        .flat_map(|user| (1..=9).map(move |number| format!("{user},friend{number},0\n{user},#team{number},2\n")));
    let files = [
        (
            "world.csv",
            format!("user,conv,type\n{}", conversations.collect::<String>()),
        ),
        ("users.csv", format!("user\n{}\n", users.join("\n"))),
        (".zim-secret", "0123456789abcdef0123456789abcdef\n".to_owned()),
    ];
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("the file is written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
    }
    let bin = directory.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    symlink(PROGRAM, bin.join("zim-batch")).expect("a link");
    // In place of requests to elsewhere. `-d @-` is standard input.
    let curl = "#!/bin/sh\necho \"$@\" >> \"$HOME/requests\"\ncase \"$*\" in *@-*) cat >> \"$HOME/requests\" ;; esac\n";
    fs::write(bin.join("curl"), curl).expect("the file is written");
    fs::set_permissions(bin.join("curl"), Permissions::from_mode(0o700)).expect("the file is ours");
    directory
}

/// Runs the `sh` blocks of a document one after another; a command that fails or warns ends the test.
fn run(document: &str) -> TempDir {
    let directory = desk();
    let simulator = Simulator::start(directory.path());
    let blocks = blocks(document);
    let script: String = blocks
        .iter()
        .filter(|block| block.is_run())
        .map(|block| format!("echo \"== {document}, line {}\" >&2\n{}", block.line, block.text))
        .collect();
    assert!(!script.is_empty(), "{document} has no block to run");
    for block in blocks.iter().filter(|block| block.marks == ["makefile"]) {
        fs::write(directory.path().join("Makefile"), &block.text).expect("the file is written");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-eu", "-c", &script])
        .env_clear()
        .env("PATH", format!("{}/bin:{path}", directory.path().display()))
        .env("HOME", directory.path())
        .env("ZIM_LOCK_DIR", directory.path())
        .env("ZIM_ENDPOINT", &simulator.endpoint)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("sh starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{document}: {}\n{said}", output.status);
    assert!(!said.contains("WARN"), "{document}: a warning\n{said}");
    directory
}

/// Every row of a report is `ok`.
fn assert_all_cleared(directory: &TempDir, report: &str) {
    let text = fs::read_to_string(directory.path().join(report)).expect("the report");
    let cleared = text.lines().filter(|line| line.contains(",ok,0,200,")).count();
    assert_eq!((cleared, text.lines().count()), (54, 55), "{text}");
}

#[test]
fn what_the_readme_says_to_type_works() {
    let directory = run("README.md");
    assert_all_cleared(&directory, "out.csv");
    assert!(directory.path().join("out.html").exists());
}

#[test]
fn what_the_guide_says_to_type_works() {
    let directory = run("docs/guide.md");
    assert_all_cleared(&directory, "out.csv");
    assert_all_cleared(&directory, "piped.csv");
    for file in ["out.html", "out.retry.csv", "out.second.csv", "why.csv"] {
        assert!(directory.path().join(file).exists(), "{file}");
    }
}

#[test]
fn what_the_recipes_say_to_type_works() {
    if program(&["jq"]).is_none() || program(&["make"]).is_none() {
        return;
    }
    let directory = run("docs/recipes.md");
    assert_all_cleared(&directory, "made.csv");
    assert!(directory.path().join("cleared").exists());
    let requests = fs::read_to_string(directory.path().join("requests")).expect("curl was called");
    let requests: Vec<_> = requests.lines().collect();
    // None to the first webhook, because nothing failed.
    let [ping, webhook, text] = requests[..] else {
        panic!("{requests:?}")
    };
    assert!(ping.ends_with("https://hc-ping.com/YOUR-UUID/0"), "{ping}");
    assert!(
        webhook.ends_with("https://hooks.example.com/services/TOKEN"),
        "{webhook}"
    );
    assert!(text.starts_with(r#"{"text":"zim-batch: "#), "{text}");
    assert!(text.ends_with(r#" 0 failed, exit status 0"}"#), "{text}");
}

/// The long flags of each subcommand.
fn flags() -> BTreeMap<&'static str, BTreeSet<String>> {
    let of = |subcommand| {
        let output = Command::new(PROGRAM)
            .args([subcommand, "--help"])
            .output()
            .expect("the program starts");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        lines.flat_map(long_flags).collect()
    };
    SUBCOMMANDS.map(|subcommand| (subcommand, of(subcommand))).into()
}

/// The words that are long flags, without their values.
fn long_flags(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || "=,:;()[]`".contains(c))
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned)
        .collect()
}

/// The calls of the program in a text, each with its subcommand and the rest of it, up to the next command or a comment.
fn calls(text: &str) -> Vec<(&str, &str)> {
    let text = text
        .split_inclusive('\n')
        .flat_map(|line| line.split(" -- ").map(str::trim_start));
    let mut calls = Vec::new();
    for line in text {
        let starts = line
            .match_indices("zim-batch ")
            .map(|(at, name)| &line[at + name.len()..]);
        for call in starts.chain([line]) {
            let ends = [" | ", " # ", " && ", " || ", "; "]
                .iter()
                .filter_map(|end| call.find(end));
            let call = &call[..ends.min().unwrap_or(call.len())];
            let subcommand = call.split_whitespace().next().unwrap_or_default();
            if let Some(known) = SUBCOMMANDS.iter().find(|known| **known == subcommand) {
                calls.push((*known, call));
            }
        }
    }
    calls
}

#[test]
fn every_flag_in_the_documents_exists() {
    let flags = flags();
    let every: BTreeSet<_> = flags.values().flatten().collect();
    let mut seen = 0;
    for document in english() {
        let check = |text: &str, line: &dyn std::fmt::Display| {
            for (subcommand, call) in calls(text) {
                for flag in long_flags(call) {
                    assert!(
                        flags[subcommand].contains(&flag),
                        "{document}, {line}: {subcommand} has no {flag}"
                    );
                }
            }
        };
        let is_run = ["README.md", "docs/guide.md", "docs/recipes.md"].contains(&document.as_str());
        for block in blocks(&document) {
            assert!(
                is_run || !block.is_run(),
                "{document}, line {}: nothing runs this block",
                block.line
            );
            check(&block.text.replace("\\\n", " "), &format_args!("line {}", block.line));
            seen += calls(&block.text).len();
        }
        for code in prose(&document).split('`').skip(1).step_by(2) {
            check(code, &code);
            let unknown = long_flags(code).into_iter().find(|flag| !every.contains(flag));
            let flag = unknown.filter(|_| code.starts_with("--"));
            assert_eq!(flag, None, "{document}: `{code}`");
        }
    }
    assert!(seen > 20, "only {seen} calls were found");
}

#[test]
fn the_chinese_documents_have_the_same_code() {
    for (english, chinese) in [
        ("README.md", "README.zh-CN.md"),
        ("docs/guide.md", "docs/guide.zh-CN.md"),
        ("docs/faq.md", "docs/faq.zh-CN.md"),
        ("docs/containers.md", "docs/containers.zh-CN.md"),
        ("docs/many-machines.md", "docs/many-machines.zh-CN.md"),
        ("docs/monitoring.md", "docs/monitoring.zh-CN.md"),
        ("docs/recipes.md", "docs/recipes.zh-CN.md"),
    ] {
        let (ours, theirs) = (blocks(english), blocks(chinese));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let place = format!("{english}, line {}; {chinese}, line {}", ours.line, theirs.line);
            assert_eq!(ours.marks, theirs.marks, "{place}");
            assert_eq!(ours.code(), theirs.code(), "{place}");
        }
        assert_eq!(ours.len(), theirs.len(), "{english} and {chinese}: blocks");
        assert_eq!(statuses(english), statuses(chinese), "{english} and {chinese}");
    }
}

#[test]
fn the_pages_on_monitoring_have_every_metric_in_a_table() {
    let source = read("src/cli/output/metrics.rs");
    let metrics: BTreeSet<_> = source
        .split('"')
        .filter(|text| text.starts_with("zim_batch_"))
        .collect();
    assert!(metrics.len() > 15, "{metrics:?}");
    for document in ["docs/monitoring.md", "docs/monitoring.zh-CN.md"] {
        let text = read(document);
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `zim_batch_"));
        let cells = cells.filter_map(|line| Some(format!("`zim_batch_{}", line.split_once(" | ")?.0)));
        let cells = cells.collect::<String>();
        let names = cells.split('`').skip(1).step_by(2);
        let names: BTreeSet<_> = names.filter_map(|name| name.split('{').next()).collect();
        assert_eq!(names, metrics, "{document}");
    }
}

/// The exit statuses in the first cells of tables.
fn statuses(document: &str) -> Vec<String> {
    let text = prose(document);
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    cells
        .map(|(first, _)| first.to_owned())
        .filter(|first| first.split(", ").all(|number| number.parse::<u8>().is_ok()))
        .collect()
}
