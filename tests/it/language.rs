//! The language in which return codes are explained: by the environment on a terminal, always English in files and JSON.

use crate::support::{Answer, Call, Desk, Server};

const CHINESE: &str = "会话不存在，或不属于用户最新的 1000 个会话";
const ENGLISH: &str = "conversation missing or not among the user's newest 1000";

/// Whether any of it is.
fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

/// The call, with these variables.
fn with(call: Call, variables: &[(&str, &str)]) -> Call {
    variables.iter().fold(call, |call, (name, value)| call.env(name, value))
}

#[test]
fn the_first_variable_that_is_not_empty_decides() {
    let desk = Desk::new();
    let (zh, en) = ("zh_CN.UTF-8", "en_US.UTF-8");
    for (variables, expected) in [
        (&[][..], ENGLISH),
        (&[("LANG", zh)], CHINESE),
        (&[("LANG", en), ("LC_MESSAGES", zh)], CHINESE),
        (&[("LANG", zh), ("LC_MESSAGES", en)], ENGLISH),
        (&[("LC_MESSAGES", zh), ("LC_ALL", "C")], ENGLISH),
        (&[("LC_MESSAGES", en), ("LC_ALL", zh)], CHINESE),
        (&[("LANG", zh), ("LC_MESSAGES", ""), ("LC_ALL", "")], CHINESE),
        (&[("LANG", zh), ("LC_ALL", "POSIX")], ENGLISH),
        (&[("LANG", zh), ("LC_CTYPE", en)], CHINESE),
        (&[("LANG", "zh_CN.GBK")], ENGLISH),
    ] {
        let outcome = with(desk.zim_batch(["codes", "660800002"]), variables).run();
        outcome.assert_status(0);
        assert!(
            outcome.stdout.starts_with(&format!("660800002: {expected}\n")),
            "{variables:?}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn codes_are_explained_in_chinese_and_their_json_stays_english() {
    let desk = Desk::new();
    let call = |args: &[&str]| desk.zim_batch(args).env("LANG", "zh_CN.UTF-8").run();

    let some = call(&["codes", "660800002", "100000005", "424242"]);
    assert_eq!(
        some.assert_status(0).stdout,
        "660800002: 会话不存在，或不属于用户最新的 1000 个会话\n  \
         类别  outside: 该行写入范围外的文件（outside log）；不重试，也不算失败\n  \
         建议  检查会话 ID；联系 ZEGO 技术支持提高上限，然后重新发送这些行\n\
         100000005: 签名错误\n  \
         类别  signature: 重新签名并重试一次；再次被拒绝时，停止运行（退出码 6）\n  \
         建议  检查 AppID 和 ServerSecret\n\
         424242: 不在 ZEGO 公布的返回码中，这些列表并不完整\n  \
         类别  unknown: 最多重试两次，然后该行判为失败\n  \
         建议  联系 ZEGO 技术支持，并提供报告中的 request_id\n"
    );
    let all = call(&["codes"]);
    for line in all.assert_status(0).stdout.lines() {
        assert!(is_chinese(line), "{line}");
    }
    let json = call(&["codes", "--json"]);
    assert_eq!(
        json.assert_status(0).stdout,
        desk.zim_batch(["codes", "--json"]).run().stdout
    );
    // Messages are not translated.
    call(&["codes", "seven"])
        .assert_status(2)
        .assert_says(&["invalid value"]);
}

#[test]
fn a_report_explains_codes_in_chinese_and_whatever_is_written_stays_english() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "out" => Answer::Code(660_800_002, "conversation not exist"),
        "bad" => Answer::Code(660_500_002, "user is not registered"),
        "odd" => Answer::Code(424_242, "who knows"),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let rows = "user,conv,type\nann,a,0\nout,b,0\nbad,c,0\nodd,d,0\n";
    let run = desk.clear(&server, rows).env("LANG", "zh_CN.UTF-8").run();
    // The end of the run is English.
    assert!(!is_chinese(&run.assert_status(3).stdout), "{}", run.stdout);

    let report = |lang: &str, args: &[&str]| {
        let call = desk.zim_batch(["report", "out.csv"].iter().chain(args));
        call.env("LC_ALL", lang).run().assert_status(0).stdout.clone()
    };
    let (english, chinese) = (report("C", &[]), report("zh_CN.UTF-8", &[]));
    let expected = [
        "660800002               1  会话不存在，或不属于用户最新的 1000 个会话\n",
        "                           → 检查会话 ID；联系 ZEGO 技术支持提高上限，然后重新发\n                           送这些行\n",
        "424242                  1  不在 ZEGO 公布的返回码中\n",
        "660500002               1  参数 FromUserId 的用户未注册\n                           → 注册该用户，或去掉该行\n",
        "code 660500002: 参数 FromUserId 的用户未注册 ('user\n                           is not registered')\n",
        "注册该用户，或去掉该行：1 行失败，返回码 660500002，参数 FromUserId 的用户未注册",
    ];
    for text in expected {
        assert!(chinese.contains(text), "no {text}: {chinese}");
    }
    // What does not explain codes is the same in both.
    let others = |table: &str| -> Vec<String> {
        let lines = table.lines().filter(|line| !is_chinese(line));
        lines.map(str::to_owned).collect()
    };
    assert!(english.lines().count() > 20 && !is_chinese(&english));
    for line in others(&chinese)
        .iter()
        .filter(|line| !line.contains("is not registered')"))
    {
        assert!(english.contains(line.trim_end()), "{line}: {english}");
    }

    assert_eq!(report("C", &["--json"]), report("zh_CN.UTF-8", &["--json"]));
    report(
        "zh_CN.UTF-8",
        &["--html", "page.html", "--only", "failed", "--csv", "copy.csv"],
    );
    for file in ["page.html", "copy.csv", "out.csv", "out.outside.csv", "out.runs.jsonl"] {
        assert!(!is_chinese(&desk.read(file)), "{file}");
    }
}
