//! The completion scripts, in the shells that they are for.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::write_config;
use crate::support::{Desk, passed_over};

/// A directory with files, profiles and the script for a shell. `None`, with a message, if there is no such shell.
fn desk_for(shell: &str) -> Option<Desk> {
    if Command::new(shell).arg("--version").output().is_err() {
        passed_over(&format!("no {shell} to complete in"));
        return None;
    }
    let desk = Desk::new();
    write_config(&desk, "[profiles.day]\n  [ profiles . night ]\n");
    for name in ["rows.csv", "rows 2.csv", "notes.txt"] {
        desk.write(name, "");
    }
    std::fs::create_dir(desk.path("rows.d")).expect("the desk can be written to");
    let script = desk.zim_batch(["completions", shell]).run();
    script.assert_status(0);
    desk.write("script", script.stdout);
    Some(desk)
}

/// Runs a script in a shell; its lines, sorted.
fn lines(desk: &Desk, shell: &str, code: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new(shell)
        .args(["-c", code])
        .args(words)
        .current_dir(desk.path(""))
        .env("HOME", desk.path(""))
        .env("PATH", path_with_the_program())
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .expect("the shell starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Where shells find the program, which they ask.
fn path_with_the_program() -> OsString {
    let program = Path::new(env!("CARGO_BIN_EXE_zim-batch"));
    let directory = program.parent().expect("it is in a directory").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory).chain(std::env::split_paths(&others));
    std::env::join_paths(all).expect("no path has a colon")
}

/// Words whose last one is completed, and what is offered for it.
const COMPLETED: [(&[&str], &[&str]); 12] = [
    (&["clear", "--reg"], &["--region"]),
    (&["clear", "x", "--only", "f"], &["failed"]),
    (&["clear", "x", "--only", "failed,o"], &["failed,ok", "failed,outside"]),
    (&["list", "x", "--region", "f"], &["fra"]),
    (&["list", "x", "--type", "p"], &["peer"]),
    (&["config", "--profile", ""], &["day", "night"]),
    (&["check", "x", "--encoding", "gb"], &["gb18030", "gbk"]),
    (&["codes", "66000000"], &["660000001", "660000002", "660000003"]),
    (&["quota", "--limit", "o"], &["off"]),
    (&["quota", "--lim"], &["--limit"]),
    (&["completions", "fi"], &["fish"]),
    (&["con"], &["config"]),
];

#[test]
fn bash_completes_values_and_files() {
    let Some(desk) = desk_for("bash") else { return };
    let code = r#"source ./script
        COMP_WORDS=(zim-batch "$@"); COMP_CWORD=$#
        [[ $(complete -p zim-batch) =~ -F\ ([^ ]+) ]]
        "${BASH_REMATCH[1]}" zim-batch "${!#}" "${COMP_WORDS[-2]}" 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}""#;
    let complete = |words: &[&str]| lines(&desk, "bash", code, &[&["bash"], words].concat());
    for (words, offered) in COMPLETED {
        assert_eq!(complete(words), offered, "{words:?}");
    }
    assert_eq!(
        complete(&["clear", "x", "--report", "rows"]),
        ["rows 2.csv", "rows.csv", "rows.d/"]
    );
    assert_eq!(complete(&["clear", "ro"]), ["rows 2.csv", "rows.csv", "rows.d/"]);
    for words in [&["clear", ""][..], &["report", ""], &["clear", "--dedupe", ""]] {
        let offered = complete(words);
        let is_offered = |name: &str| offered.iter().any(|word| word == name);
        assert!(
            is_offered("rows.csv") && is_offered("notes.txt"),
            "{words:?}: {offered:?}"
        );
    }
    for words in [&["config", "--sim"][..], &["man", "ro"], &["simulate", "ro"]] {
        assert_eq!(complete(words), [""], "{words:?}");
    }
}

#[test]
fn another_program_s_variable_for_completions_is_not_taken_for_ours() {
    let desk = Desk::new();
    let version = desk.zim_batch(["--version"]).env("COMPLETE", "bash").run();
    assert!(version.assert_status(0).stdout.starts_with("zim-batch "), "{version:?}");
}

#[test]
fn fish_completes_values_and_files() {
    let Some(desk) = desk_for("fish") else { return };
    let complete = |words: &[&str]| {
        // Without the path, no script of an installed zim-batch is used.
        let words = words.join(" ");
        let code = format!("set fish_complete_path; source ./script; complete -C 'zim-batch {words}'");
        let lines = lines(&desk, "fish", &code, &[]);
        let words = lines
            .iter()
            .map(|line| line.split('\t').next().unwrap_or(line).to_owned());
        words.collect::<Vec<_>>()
    };
    for (words, offered) in COMPLETED {
        assert_eq!(complete(words), offered, "{words:?}");
    }
    for words in [
        &["config", "ro"][..],
        &["man", "ro"],
        &["help", "ro"],
        &["simulate", "ro"],
    ] {
        assert_eq!(complete(words), [""; 0], "{words:?}");
    }
    assert_eq!(complete(&["config", "--secret-file", "rows.c"]), ["rows.csv"]);
    for words in [&["clear", "rows"][..], &["clear", "x", "--report", "rows"]] {
        assert_eq!(complete(words), ["rows 2.csv", "rows.csv", "rows.d/"], "{words:?}");
    }
}

#[test]
fn zsh_completes_values_and_files() {
    let Some(desk) = desk_for("zsh") else { return };
    std::fs::create_dir(desk.path("functions")).unwrap();
    std::fs::rename(desk.path("script"), desk.path("functions/_zim-batch")).unwrap();
    // Completion needs a terminal. There, lines that end with the key Tab call a function that writes down its arguments.
    let code = r#"zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D'
        zpty -w z 'zim-batch() {
            if [[ -n $ZIM_BATCH_COMPLETE ]]; then command zim-batch "$@"; else print -rl -- "${(j: :)@}" >> typed; fi }'
        for line in "$@"; do
            zpty -w z "zim-batch $line"$'\t'
        done
        zpty -w z 'print end >> typed'
        for i in {1..200}; do
            zpty -r -t z shown
            grep -qs end typed && break
            sleep 0.05
        done
        cat typed"#;
    let words = [
        "zsh",
        "clear x --only failed,inv",
        "config --profile n",
        "list x --region f",
        "clear notes",
        "con",
    ];
    assert_eq!(
        lines(&desk, "zsh", code, &words),
        [
            "clear notes.txt",
            "clear x --only failed,invalid",
            "config",
            "config --profile night",
            "end",
            "list x --region fra"
        ]
    );
}
