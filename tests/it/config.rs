//! Profiles in the configuration file, `zim-batch config`, shell completions, and the examples of the help.

mod completions;
mod examples;

use std::os::unix::fs::PermissionsExt;

use crate::support::{APP_ID, Call, Desk, Outcome, SECRET, Server, can_be_another_user, kind_server, rows};

const CONFIG: &str = ".config/zim-batch/config.toml";

/// Writes the configuration file, and a file with the secret beside it.
fn write_config(desk: &Desk, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(desk.path(".config/zim-batch")).expect("the desk can be written to");
    for file in [".config/zim-batch/secret", CONFIG] {
        desk.write(
            file,
            if file == CONFIG {
                text.as_ref()
            } else {
                SECRET.as_bytes()
            },
        );
        set_mode(desk, file, 0o600);
    }
}

fn set_mode(desk: &Desk, name: &str, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(desk.path(name), permissions).expect("it is our file");
}

/// A table for a server that works, with a name.
fn profile(name: &str, server: &Server) -> String {
    format!(
        "[profiles.{name}]\napp_id = {APP_ID}\nsecret_file = \"secret\"\nendpoint = \"{}\"\nrate = 200\n",
        server.url()
    )
}

/// `clear` of two rows without settings.
fn clear(desk: &Desk) -> Call {
    desk.write("rows.csv", rows(2));
    desk.zim_batch(["clear", "rows.csv", "--report", "out.csv", "--overwrite"])
}

fn config(desk: &Desk, flags: &[&str]) -> Call {
    desk.zim_batch(["config"].iter().chain(flags))
}

/// What `config --json` says of a setting: its value and where it comes from.
#[track_caller]
fn setting(call: Call, name: &str) -> (serde_json::Value, String) {
    let outcome = call.arg("--json").run();
    outcome.assert_status(0);
    let object: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("it is JSON");
    let from = object[name]["from"].as_str().unwrap_or("default").to_owned();
    (object[name]["value"].clone(), from)
}

/// The secret is in no output.
#[track_caller]
fn assert_hidden(outcome: &Outcome) {
    for secret in [SECRET, "s3cret"] {
        assert!(
            !format!("{}{}", outcome.stdout, outcome.stderr).contains(secret),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_run_takes_app_secret_endpoint_and_rate_from_a_profile() {
    let (desk, server) = (Desk::new(), kind_server());
    write_config(&desk, profile("night", &server));
    let outcome = clear(&desk).flag("--profile", "night").run();
    outcome
        .assert_status(0)
        .assert_says(&["(profile night)", &APP_ID.to_string()]);
    clear(&desk).env("ZIM_PROFILE", "night").run().assert_status(0);
    server.assert_well_formed();
    assert_eq!(server.requests().len(), 4);

    // Only a profile of that name is used when none is named.
    clear(&desk).run().assert_status(2).assert_says(&["--profile"]);
    write_config(&desk, profile("default", &server));
    clear(&desk).run().assert_status(0);
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn flags_take_precedence_over_the_environment_and_that_over_the_profile() {
    let desk = Desk::new();
    write_config(
        &desk,
        "[profiles.night]\napp_id = 1\nsecret_file = \"secret\"\nregion = \"fra\"\nca_cert = \"ca.pem\"\nrate = 1\n\
         quota = \"redis://profile\"\n",
    );
    desk.write("other", SECRET);
    let certificate = rcgen::generate_simple_self_signed(["x.test".to_owned()]).expect("it can be made");
    for file in [".config/zim-batch/ca.pem", "f.pem"] {
        desk.write(file, certificate.cert.pem());
    }
    let call = || config(&desk, &["--profile", "night"]);
    let in_profile = |line: u8| format!("{}, line {line}", desk.path(CONFIG).display());
    let beside = |name: &str| desk.path(".config/zim-batch").join(name).display().to_string();
    let hidden = serde_json::json!("(hidden)");

    for (name, value, line) in [
        ("app_id", serde_json::json!(1), 2),
        ("secret", hidden.clone(), 3),
        ("endpoint", "https://zim-api-fra.zego.im/".into(), 4),
        ("ca_cert", beside("ca.pem").into(), 5),
        ("rate", 1.0.into(), 6),
        ("quota", "redis://profile".into(), 7),
    ] {
        assert_eq!(setting(call(), name), (value, in_profile(line)), "{name}");
    }
    for (variable, text, name, value) in [
        ("ZIM_APP_ID", "2", "app_id", serde_json::json!(2)),
        ("ZIM_SERVER_SECRET", "s3cret", "secret", hidden.clone()),
        ("ZIM_SERVER_SECRET_FILE", "other", "secret", hidden.clone()),
        ("ZIM_ENDPOINT", "https://e.test", "endpoint", "https://e.test/".into()),
        ("ZIM_QUOTA", "redis://:s3cret@env", "quota", "redis://env".into()),
    ] {
        let found = setting(call().env(variable, text), name);
        assert_eq!(found, (value, variable.to_owned()), "{name}");
        let empty = setting(call().env(variable, ""), name);
        assert!(empty.1.contains(CONFIG), "{name}: {empty:?}");
    }
    for (flag, text, variable, name, value) in [
        ("--app-id", "3", "ZIM_APP_ID", "app_id", serde_json::json!(3)),
        ("--secret-file", "other", "ZIM_SERVER_SECRET", "secret", hidden),
        (
            "--endpoint",
            "https://f.test",
            "ZIM_ENDPOINT",
            "endpoint",
            "https://f.test/".into(),
        ),
        (
            "--region",
            "sgp",
            "ZIM_NONE",
            "endpoint",
            "https://zim-api-sgp.zego.im/".into(),
        ),
        ("--ca-cert", "f.pem", "ZIM_NONE", "ca_cert", "f.pem".into()),
        ("--rate", "3", "ZIM_NONE", "rate", 3.0.into()),
        ("--quota", "redis://flag", "ZIM_QUOTA", "quota", "redis://flag".into()),
    ] {
        let found = setting(call().flag(flag, text).env(variable, "4"), name);
        assert_eq!(found, (value, flag.to_owned()), "{name}");
    }
    let profile = setting(call().env("ZIM_PROFILE", "other"), "profile");
    assert_eq!(profile, ("night".into(), "--profile".into()));
}

#[test]
fn config_shows_each_setting_with_its_source_and_no_secret() {
    let desk = Desk::new();
    write_config(
        &desk,
        "[profiles.night]\napp_id = 7\nsecret_file = \"secret\"\nquota = \"redis://u:s3cret@cache:1/0\"\n[profiles.day]\n",
    );
    let outcome = config(&desk, &["--profile", "night", "--rate", "10"])
        .env("HTTPS_PROXY", "http://u:s3cret@proxy.test:3128")
        .run();
    outcome.assert_status(0);
    assert_hidden(&outcome);
    for (name, value, source) in [
        ("app id", "7", "profile night, line 2"),
        ("secret", "set, 32 characters", "profile night, line 3"),
        ("endpoint", "https://zim-api.zego.im/", "default"),
        ("proxy", "http://proxy.test:3128", "HTTPS_PROXY"),
        ("rate", "10", "--rate"),
        ("quota", "redis://cache:1/0", "profile night, line 4"),
        ("profile", "night", "--profile"),
        ("profiles", "day, night", ""),
        ("config file", CONFIG, "exists"),
    ] {
        let line = outcome
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("{name}  ")));
        let line = line.unwrap_or_else(|| panic!("no {name}: {}", outcome.stdout));
        assert!(line.contains(value) && line.ends_with(source), "{line}");
    }
    let json = config(&desk, &["--profile", "night", "--json"]).run();
    assert_hidden(json.assert_status(0));
}

#[test]
fn config_without_credentials_says_what_to_do_and_creates_nothing() {
    let desk = Desk::new();
    let outcome = config(&desk, &[]).run();
    outcome.assert_status(0);
    for part in [
        "not set",
        "--app-id, ZIM_APP_ID",
        "ZIM_SERVER_SECRET_FILE",
        "does not exist",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    assert_eq!(outcome.stderr, "");
    assert_eq!(std::fs::read_dir(desk.path("")).unwrap().count(), 0);
    let unset: serde_json::Value = serde_json::from_str(&config(&desk, &["--json"]).run().stdout).unwrap();
    for name in ["app_id", "secret", "ca_cert", "quota", "proxy", "profile"] {
        for key in ["value", "source", "from", "error"] {
            assert!(unset[name][key].is_null(), "{name}: {unset}");
        }
    }
    assert_eq!(unset["rate"]["source"], "default");
    config(&desk, &["--simulate"])
        .run()
        .assert_status(2)
        .assert_says(&["--simulate"]);
    let help = config(&desk, &["--help"]).run().stdout;
    assert!(!help.contains("--simulate"), "{help}");
}

#[test]
fn config_shows_every_setting_also_if_some_are_wrong_and_says_so_to_scripts() {
    let desk = Desk::new();
    write_config(
        &desk,
        "[profiles.night]\napp_id = 7\nsecret_file = \"secret\"\n[profiles.\"a\\nb\\u001b\"]\n",
    );
    desk.write("f.pem", "no certificate");
    let night = || config(&desk, &[]).env("ZIM_PROFILE", "night");
    for (source, text, name, says) in [
        ("--app-id", "", "app id", "must be a number"),
        ("ZIM_APP_ID", " ", "app id", "must be a number"),
        ("--endpoint", "x", "endpoint", "--endpoint: 'x': this is not a url"),
        ("--region", "moon", "endpoint", "--region: it must be one of sha"),
        ("--rate", "fast", "rate", "--rate: it must be a number"),
        ("--secret-file", "none", "secret", "can't be read"),
        ("ZIM_SERVER_SECRET", "a\nb", "secret", "several lines"),
        ("--ca-cert", "none", "ca cert", "can't be read"),
        ("--ca-cert", "f.pem", "ca cert", "no certificate"),
        ("ZIM_LOCK_DIR", "none", "lock dir", "no such directory"),
        ("ZIM_QUOTA", "http://u:s3cret@x", "quota", "quota url"),
        ("HTTPS_PROXY", "gopher://x", "proxy", "names a proxy"),
        ("--profile", "none", "profile", "no profile 'none'"),
    ] {
        let outcome = if source.starts_with("--") {
            night().flag(source, text).run()
        } else {
            night().env(source, text).run()
        };
        outcome.assert_status(2).assert_says(&[says]);
        assert_hidden(&outcome);
        assert_eq!(
            (outcome.stdout.lines().count(), outcome.stderr.lines().count()),
            (14, 1),
            "{outcome:?}"
        );
        let row = outcome.stdout.lines().find(|row| row.starts_with(&format!("{name}  ")));
        let words: Vec<&str> = row.unwrap_or_default()[name.len()..].split_whitespace().collect();
        assert_eq!(words, ["wrong", source], "{outcome:?}");
        assert!(outcome.stdout.contains("a\\nb\\u{1b}, night"), "{outcome:?}");
    }
    let outcome = night().env("HTTPS_PROXY", "gopher://x").arg("--json").run();
    let object: serde_json::Value = serde_json::from_str(&outcome.assert_status(2).stdout).expect("it is one object");
    assert_eq!(
        (&object["proxy"]["value"], &object["proxy"]["from"]),
        (&serde_json::Value::Null, &"HTTPS_PROXY".into())
    );
    assert!(
        object["proxy"]["error"] == object["error"] && object["exit"] == 2,
        "{object}"
    );
    assert_eq!(object["profiles"][0], "a\nb\u{1b}");
    // Without its profile, a setting is not known.
    let outcome = config(&desk, &["--profile", "none", "--rate", "3", "--json"]).run();
    let object: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("it is one object");
    assert!(
        object["endpoint"]["value"].is_null() && object["rate"]["value"] == 3.0,
        "{object}"
    );
}

#[test]
fn what_is_wrong_in_the_file_is_named_by_file_line_and_key() {
    let desk = Desk::new();
    let key = |line: &str| format!("# a profile\n[profiles.default]\r\n{line}\n");
    for (text, line, says) in [
        (key("app_id = -1"), 3, "app_id: the AppId must be a number from 0"),
        (key("app_id = \"many\""), 3, "app_id: the AppId must be a number from 0"),
        (key("app_id = 4294967296"), 3, "app_id"),
        (key("app_id = true"), 3, "app_id: it must be a text"),
        (key("app_id = 99999999999999999999"), 3, "too large"),
        (key("region = \"xyz\""), 3, "region: it must be one of sha, hkg"),
        (key("rate = 0"), 3, "rate: it must be a number from 0.001"),
        (key("rate = nan"), 3, "rate: it must be a number from 0.001"),
        (key("endpoint = \"http://e.test\""), 3, "loopback"),
        (key("endpoint = \"https://u:s3cret@e.test\""), 3, "user name"),
        (key("endpoint = \"\""), 3, "endpoint: ''"),
        (
            key("endpoint = \"https://e.test\"\nregion = \"fra\""),
            4,
            "leave out one of them",
        ),
        (key("secret_file = \"\""), 3, "path of a file"),
        (key("ap_id = 1"), 3, "did you mean app_id?"),
        (key("app-id = 1"), 3, "did you mean app_id?"),
        (
            key("zzz = 1"),
            3,
            "unknown key. the keys of a profile are app_id, secret_file, region, endpoint, ca_cert, rate, quota",
        ),
        (key("\nserver_secret = \"s3cret\""), 4, "as secret_file"),
        (key("secret = \"s3cret\""), 3, "as secret_file"),
        (key("ZIM_SERVER_SECRET = \"s3cret\""), 3, "as secret_file"),
        (key(&format!("{SECRET} = 1")), 3, "(not shown)"),
        (key(SECRET), 3, "not valid TOML: key with no value"),
        (key(&format!("secret_file = {SECRET}")), 3, "not valid TOML"),
        (key(&format!("secret_file = \"{SECRET}\"")), 3, "path of a file"),
        (key(&format!("secret_file = \"~/{SECRET}\"")), 3, "path of a file"),
        (key(&format!("app_id = \"{SECRET}\"")), 3, "AppId"),
        (key(&format!("region = \"{SECRET}\"")), 3, "one of"),
        (key(&format!("endpoint = \"{SECRET}\"")), 3, "(not shown)"),
        (key(&format!("ca_cert = \"{SECRET}\"")), 3, "no such file"),
        (key("app_id = 1\napp_id = 2"), 4, "duplicate key"),
        ("app_id = 1\n".into(), 1, "[profiles.default]"),
        ("secret = \"s3cret\"\n".into(), 1, "as secret_file"),
        ("[night]\napp_id = 1\n".into(), 1, "[profiles.night]"),
        (
            "[profile.night]\napp_id = 1\n".into(),
            1,
            "[profile.night]: write the table of a profile like this: [profiles.night]",
        ),
        (
            "[profiles]\napp_id = 1\n".into(),
            2,
            "begin one with [profiles.default]",
        ),
        ("[profiles]\nsecret = \"s3cret\"\n".into(), 2, "as secret_file"),
        ("[profiles]\nnight = 1\n".into(), 2, "a profile is a table"),
        (format!("[{SECRET}]\n"), 1, "(not shown)"),
        ("\n[profiles.x\n".into(), 2, "not valid TOML"),
        ("<xml/>\n".into(), 1, "not valid TOML"),
    ] {
        write_config(&desk, &text);
        for outcome in [config(&desk, &[]).run(), clear(&desk).run()] {
            let place = format!("{}, line {line}: ", desk.path(CONFIG).display());
            outcome.assert_status(2).assert_says(&[&place, says]);
            assert_hidden(&outcome);
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        }
    }
    write_config(&desk, key("quota = \"http://u:s3cret@e.test\""));
    let outcome = config(&desk, &[]).run();
    outcome.assert_status(2).assert_says(&["quota URL", "line 3"]);
    assert_hidden(&outcome);
}

#[test]
fn numbers_may_be_texts_and_paths_begin_at_home_or_at_the_file() {
    let desk = Desk::new();
    desk.write("home-secret", SECRET);
    let text = "\u{feff}[profiles.\"a b\"]\r\napp_id = \"123\"\r\nrate = 20\r\nsecret_file = '~/home-secret'\r\n\
                [profiles.float]\napp_id = 1_000\nrate = 2.5\nsecret_file = \"../zim-batch/secret\"\n[profiles.empty]\n";
    write_config(&desk, text);
    let call = |name: &str| config(&desk, &["--profile", name]);
    assert_eq!(setting(call("a b"), "app_id").0, 123);
    assert_eq!(setting(call("a b"), "rate").0, 20.0);
    assert_eq!(setting(call("float"), "app_id").0, 1000);
    assert_eq!(setting(call("float"), "rate").0, 2.5);
    write_config(&desk, text.replace("rate = 20", "region = 'FRA'"));
    assert_eq!(setting(call("a b"), "endpoint").0, "https://zim-api-fra.zego.im/");
    write_config(&desk, text);
    for name in ["a b", "float"] {
        let (value, from) = setting(call(name), "secret");
        assert!(value == "(hidden)" && from.contains(CONFIG), "{name}: {value} {from}");
    }
    assert_eq!(setting(call("empty"), "app_id").0, serde_json::Value::Null);
}

#[test]
fn a_profile_that_is_not_there_is_an_error_that_names_those_that_are() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = |name: &str| clear(&desk).flag("--profile", name).run();
    call("night").assert_status(2).assert_says(&[CONFIG, "does not exist"]);
    write_config(&desk, "");
    call("night").assert_status(2).assert_says(&[CONFIG, "no profiles"]);
    write_config(&desk, profile("day", &server) + "[profiles.default]\n");
    for name in ["night", "", "a\u{1b}[2Jb", "../x"] {
        let outcome = call(name);
        outcome
            .assert_status(2)
            .assert_says(&[CONFIG, "--profile", "day, default"]);
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:?}");
    }
    let by_variable = clear(&desk).env("ZIM_PROFILE", "night").run();
    by_variable
        .assert_status(2)
        .assert_says(&["ZIM_PROFILE", "day, default"]);
    assert!(!desk.has("out.csv") && server.requests().is_empty());
}

#[test]
fn a_file_that_can_t_be_read_is_an_error_where_it_is_needed_and_only_there() {
    let (desk, server) = (Desk::new(), kind_server());
    let with_all = |call: Call| {
        call.env("ZIM_APP_ID", &APP_ID.to_string())
            .env("ZIM_SERVER_SECRET", SECRET)
            .env("ZIM_ENDPOINT", &server.url())
    };
    std::fs::create_dir_all(desk.path(CONFIG)).unwrap();
    let is_directory = with_all(clear(&desk)).run();
    is_directory.assert_status(2).assert_says(&[CONFIG, "can't be read"]);
    std::fs::remove_dir(desk.path(CONFIG)).unwrap();
    let made = std::process::Command::new("mkfifo").arg(desk.path(CONFIG)).status();
    assert!(made.expect("there is mkfifo").success());
    let is_pipe = with_all(clear(&desk)).run();
    is_pipe.assert_status(2).assert_says(&[CONFIG, "not a regular file"]);
    std::fs::remove_file(desk.path(CONFIG)).unwrap();
    for (bytes, says) in [
        (&b"[profiles.x]\nquota = \"\xff\""[..], "line 2: this is not UTF-8"),
        (b"\0", "line 1"),
    ] {
        write_config(&desk, bytes);
        with_all(clear(&desk)).run().assert_status(2).assert_says(&[says]);
    }
    for args in [
        &["clear", "rows.csv", "--simulate", "--report", "out.csv"][..],
        &["clear", "rows.csv", "--dry-run"],
        &["check", "rows.csv"],
        &["report", "out.csv"],
        &["codes"],
        &["completions", "bash"],
        &["man"],
    ] {
        let outcome = desk.zim_batch(args).env("ZIM_PROFILE", "night").run();
        outcome.assert_status(0);
    }
    let named = clear(&desk).arg("--simulate").flag("--profile", "night").run();
    named.assert_status(2).assert_says(&[CONFIG]);
    desk.zim_batch(["check", "rows.csv", "--profile", "night"])
        .run()
        .assert_status(2)
        .assert_says(&[CONFIG]);
    // An empty file is fine.
    write_config(&desk, "");
    with_all(clear(&desk)).run().assert_status(0);
}

#[test]
fn a_simulator_takes_only_the_rate_from_a_named_profile() {
    let desk = Desk::new();
    write_config(
        &desk,
        "[profiles.night]\nsecret_file = \"no-such-file\"\nquota = \"redis://127.0.0.1:1\"\nrate = 2\n",
    );
    let outcome = clear(&desk)
        .arg("--simulate")
        .flag("--profile", "night")
        .arg("-v")
        .env("ZIM_QUOTA", "x")
        .run();
    outcome.assert_status(0).assert_says(&["at most 2/s"]);
}

#[test]
fn a_check_uses_the_rate_of_the_run_and_prints_its_app() {
    let desk = Desk::new();
    write_config(&desk, "[profiles.night]\nrate = 7\n");
    desk.write("rows.csv", rows(2));
    desk.write("out.csv", "taken");
    let check = || desk.zim_batch(["check", "rows.csv"]);
    let shows = |call: Call, part: &str| {
        let outcome = call.run();
        assert!(outcome.stdout.contains(part), "{part}: {outcome:?}");
    };
    for words in [&["check", "rows.csv"][..], &["clear", "rows.csv", "--dry-run"]] {
        let call = || desk.zim_batch(words);
        shows(call().flag("--profile", "night"), "at 7/s");
        shows(call().env("ZIM_PROFILE", "night"), "at 7/s");
        shows(call().flag("--profile", "night").flag("--rate", "8"), "at 8/s");
        call()
            .flag("--profile", "nothere")
            .run()
            .assert_status(2)
            .assert_says(&["'nothere' (--profile)"]);
        let by_variable = call().env("ZIM_PROFILE", "nothere").run();
        by_variable
            .assert_status(0)
            .assert_says(&["'nothere' (zim_profile)", "without a profile"]);
        let with_rate = call().env("ZIM_PROFILE", "nothere").flag("--rate", "8").run();
        assert_eq!((with_rate.status, with_rate.stderr.as_str()), (0, ""));
    }
    let online = || check().arg("--online").arg("--simulate").flag("--profile", "night");
    let command = "zim-batch clear rows.csv --report out2.csv --simulate --profile night\n";
    shows(online(), command);
    shows(
        check().flag("--profile", "night"),
        "--report out2.csv --profile night\n",
    );
    shows(online().flag("--rate", "20"), "--simulate --profile night --rate 20\n");
}

#[test]
fn a_file_of_another_user_is_reported_and_a_home_that_is_closed_has_none() {
    let desk = Desk::new();
    write_config(&desk, "[profiles.default]\n");
    if !can_be_another_user() {
        return;
    }
    let as_another = |flags: &[&str]| config(&desk, flags).by_user(54321).run();
    set_mode(&desk, ".config", 0o700);
    as_another(&[]).assert_status(0);
    as_another(&["--profile", "default"])
        .assert_status(2)
        .assert_says(&[CONFIG, "can't be reached"]);
    for directory in ["", ".config", ".config/zim-batch"] {
        set_mode(&desk, directory, 0o755);
    }
    as_another(&[])
        .assert_status(2)
        .assert_says(&[CONFIG, "can't be read", "denied"]);
}

#[test]
fn the_place_of_the_file_follows_the_xdg_specification() {
    let desk = Desk::new();
    write_config(&desk, "[profiles.home]\n");
    std::fs::create_dir_all(desk.path("xdg/zim-batch")).unwrap();
    desk.write("xdg/zim-batch/config.toml", "[profiles.xdg]\n");
    let profiles = |call: Call| {
        let outcome = call.arg("--json").run();
        let object: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("it is JSON");
        object["profiles"][0].clone()
    };
    let xdg = desk.path("xdg").display().to_string();
    assert_eq!(profiles(config(&desk, &[]).env("XDG_CONFIG_HOME", &xdg)), "xdg");
    assert_eq!(profiles(config(&desk, &[]).env("XDG_CONFIG_HOME", "xdg")), "home");
    assert_eq!(profiles(config(&desk, &[]).env("XDG_CONFIG_HOME", "")), "home");
    let without_home = config(&desk, &[]).without_env("HOME").env("XDG_CONFIG_HOME", &xdg);
    assert_eq!(profiles(without_home), "xdg");
}

#[test]
fn a_password_that_others_can_read_and_settings_of_two_apps_are_warned_about() {
    let (desk, server) = (Desk::new(), kind_server());
    let warns = |call: Call| {
        let outcome = call.run();
        assert_hidden(&outcome);
        outcome.stderr
    };
    for (quota, mode, is_warned) in [
        ("redis://:s3cret@127.0.0.1:1", 0o644, true),
        ("redis://:s3cret@127.0.0.1:1", 0o600, false),
        ("redis://127.0.0.1:1", 0o644, false),
    ] {
        write_config(&desk, format!("[profiles.default]\nquota = \"{quota}\"\n"));
        set_mode(&desk, CONFIG, mode);
        let stderr = warns(config(&desk, &[]));
        assert_eq!(stderr.contains("chmod 600"), is_warned, "{quota} {mode:o}: {stderr}");
    }
    write_config(&desk, profile("night", &server));
    let mixed = clear(&desk).flag("--profile", "night").env("ZIM_APP_ID", "5");
    assert!(warns(mixed).contains("different places"));
    let typed = || {
        clear(&desk)
            .flag("--profile", "night")
            .env("ZIM_SERVER_SECRET", "s3cret")
    };
    let stderr = warns(typed().flag("--app-id", "5"));
    assert!(
        !stderr.contains("different places") && !stderr.contains("take precedence"),
        "{stderr}"
    );
    assert!(
        stderr.contains("for app 5 (AppId from --app-id, other settings from profile night)"),
        "{stderr}"
    );
    let stderr = warns(typed().env("ZIM_APP_ID", "5"));
    assert!(
        stderr.contains("the AppId is 5, from ZIM_APP_ID, and not that of the profile of --profile"),
        "{stderr}"
    );
    assert!(stderr.contains("for app 5 (AppId from ZIM_APP_ID,"), "{stderr}");
}

#[test]
fn an_endpoint_with_a_user_is_refused_wherever_its_slash_is() {
    for url in [
        "https://user:1/s3cretpw@host.example",
        "https://user:s3cretpw@host.example",
    ] {
        let outcome = Desk::new().zim_batch(["config"]).env("ZIM_ENDPOINT", url).run();
        outcome.assert_status(2).assert_says(&["user name or a password"]);
        assert!(
            !format!("{}{}", outcome.stdout, outcome.stderr).contains("s3cret"),
            "{outcome:?}"
        );
    }
}
