//! ZIM's return codes: one table with the meaning and the class of each.
//!
//! The table has the codes that a call like ClearConversationUnread can return, from ZEGO's list of global return
//! codes and the API's own page. ZEGO's lists are incomplete, so a code that is not here is [`Class::Unknown`], never
//! an error of this program. HTTP statuses and transport errors are not codes: `verdict.rs` classifies those.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::row::UnknownName;

/// How a run handles an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Class {
    /// The row is done.
    Ok,
    /// The conversation is not reachable: it does not exist, or is not among the user's newest 1000. Never retried, never a failure.
    Outside,
    /// Retry with back-off and jitter, with a new signature.
    Transient,
    /// Too many requests per second: slow down the whole run, then retry. Does not count as an attempt of the row.
    Limited,
    /// The signature was refused or has expired: sign again and retry once; if refused again, [`Class::Fatal`].
    Signature,
    /// The app is not known (yet): retry a few times; if that fails, [`Class::Fatal`]. Probably a wrong AppId.
    App,
    /// This row can't succeed: it fails immediately.
    Rejected,
    /// No row can succeed: the run stops and leaves the other rows unsent.
    Fatal,
    /// An answer that is not in this table: at most two retries, then the row fails.
    Unknown,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 9] = [
        Class::Ok,
        Class::Outside,
        Class::Transient,
        Class::Limited,
        Class::Signature,
        Class::App,
        Class::Rejected,
        Class::Fatal,
        Class::Unknown,
    ];

    /// Its name: the variant in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Outside => "outside",
            Class::Transient => "transient",
            Class::Limited => "limited",
            Class::Signature => "signature",
            Class::App => "app",
            Class::Rejected => "rejected",
            Class::Fatal => "fatal",
            Class::Unknown => "unknown",
        }
    }

    /// How a run handles this class, in a few words.
    pub fn handling(self) -> &'static str {
        match self {
            Class::Ok => "the row is done",
            Class::Outside => "the row goes to the outside log; never retried, never a failure",
            Class::Transient => "retried with back-off and a new signature",
            Class::Limited => "the whole run slows down, then the row is retried; does not count as an attempt",
            Class::Signature => "signed again and retried once; if refused again, the run stops",
            Class::App => "retried a few times; if that fails, the run stops",
            Class::Rejected => "the row fails immediately",
            Class::Fatal => "the run stops immediately and leaves the other rows unsent",
            Class::Unknown => "at most two retries, then the row fails",
        }
    }

    /// [`Class::handling`] in Chinese.
    pub fn handling_zh(self) -> &'static str {
        match self {
            Class::Ok => "该行已完成",
            Class::Outside => "该行写入范围外的文件（outside log）；不重试，也不算失败",
            Class::Transient => "重试，间隔逐渐增大，每次重新签名",
            Class::Limited => "整个运行降速，然后重试该行；不计入尝试次数",
            Class::Signature => "重新签名并重试一次；再次被拒绝时，停止运行",
            Class::App => "重试几次；仍然失败时，停止运行",
            Class::Rejected => "该行立即判为失败",
            Class::Fatal => "立即停止运行，其余的行不发送",
            Class::Unknown => "最多重试两次，然后该行判为失败",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Parses the form of [`Class::as_str`].
///
/// ```
/// use zim_batch::code::Class;
///
/// for class in Class::ALL {
///     assert_eq!(class.to_string().parse(), Ok(class));
/// }
/// assert!("fine".parse::<Class>().is_err());
/// ```
impl FromStr for Class {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Class, UnknownName> {
        let class = Class::ALL.into_iter().find(|class| class.as_str() == text);
        class.ok_or_else(|| UnknownName::new(text, "class", &Class::ALL.map(Class::as_str)))
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReturnCode {
    /// The `Code` of the answer.
    pub code: i64,
    /// How a run handles it.
    pub class: Class,
    /// Its meaning, according to ZEGO.
    pub meaning: &'static str,
    /// What the operator can do; empty if nothing.
    pub advice: &'static str,
    /// [`ReturnCode::meaning`] in Chinese.
    #[serde(skip)]
    pub meaning_zh: &'static str,
    /// [`ReturnCode::advice`] in Chinese.
    #[serde(skip)]
    pub advice_zh: &'static str,
}

/// A line of the table; the texts in English, then in Chinese.
const fn known(code: i64, class: Class, meaning: [&'static str; 2], advice: [&'static str; 2]) -> ReturnCode {
    ReturnCode {
        code,
        class,
        meaning: meaning[0],
        advice: advice[0],
        meaning_zh: meaning[1],
        advice_zh: advice[1],
    }
}

/// Looks up a code; `None` if ZEGO's lists don't have it.
///
/// ```
/// use zim_batch::code::{Class, find};
///
/// assert_eq!(find(660800002).map(|known| known.class), Some(Class::Outside));
/// assert_eq!(find(424242), None);
/// ```
pub fn find(code: i64) -> Option<&'static ReturnCode> {
    TABLE
        .binary_search_by_key(&code, |known| known.code)
        .ok()
        .map(|index| &TABLE[index])
}

/// The class of a code; [`Class::Unknown`] if the table doesn't have it.
pub fn class_of(code: i64) -> Class {
    find(code).map_or(Class::Unknown, |known| known.class)
}

/// Whether a row that failed with this code may succeed in another try.
pub fn is_retryable(code: i64) -> bool {
    match class_of(code) {
        Class::Ok | Class::Transient | Class::Limited | Class::Unknown => true,
        Class::Outside | Class::Signature | Class::App | Class::Rejected | Class::Fatal => false,
    }
}

/// All known codes, ascending.
#[rustfmt::skip]
pub const TABLE: &[ReturnCode] = &[
    known(0, Class::Ok, ["success", "成功"], ["", ""]),
    known(1, Class::Transient, ["request failed; server busy", "请求失败，服务器繁忙"], ["try again later", "稍后重试"]),
    known(2, Class::Rejected, ["input parameter error", "输入参数错误"], ["check the row's values", "检查该行的值"]),
    known(3, Class::Fatal, ["authentication failed", "鉴权失败"], ["check AppId and ServerSecret; contact ZEGO", "检查 AppID 和 ServerSecret；联系 ZEGO 技术支持"]),
    known(7, Class::Limited, ["more requests per second than allowed", "每秒请求次数超过调用频率限制"], ["slow down", "降低速率"]),
    known(50_014, Class::Rejected, ["user name too long", "用户名过长"], ["not expected for this API", "该接口不应返回此返回码"]),
    known(51_102, Class::Rejected, ["user does not exist or never logged in to ZIM", "用户不存在，或从未登录 ZIM"], ["register the user or drop the row", "注册该用户，或去掉该行"]),
    known(105_001, Class::Transient, ["database request failed on the server", "服务端数据库请求失败"], ["try again; contact ZEGO if it stays", "重试；如果仍然出现，联系 ZEGO 技术支持"]),
    known(100_000_000, Class::Fatal, ["wrong host in the URL", "请求地址中的域名错误"], ["check the endpoint", "检查接入地址"]),
    known(100_000_001, Class::Fatal, ["AppId has a wrong format", "参数 AppId 的格式错误"], ["check the AppId", "检查 AppID"]),
    known(100_000_002, Class::Fatal, ["Timestamp is empty", "参数 Timestamp 为空"], ["", ""]),
    known(100_000_003, Class::Fatal, ["Timestamp has a wrong format", "参数 Timestamp 的格式错误"], ["it must be Unix seconds", "应为 Unix 时间戳（秒）"]),
    known(100_000_004, Class::Signature, ["signature expired", "签名已过期"], ["check this machine's clock", "检查本机时钟"]),
    known(100_000_005, Class::Signature, ["wrong signature", "签名错误"], ["check AppId and ServerSecret", "检查 AppID 和 ServerSecret"]),
    known(100_000_006, Class::Fatal, ["Action is empty", "参数 Action 为空"], ["", ""]),
    known(100_000_007, Class::Fatal, ["unsupported Action", "不支持参数 Action 的值"], ["check the endpoint; the region may not have this API", "检查接入地址；该地理区域可能没有此接口"]),
    known(100_000_008, Class::Fatal, ["SignatureNonce is empty", "参数 SignatureNonce 为空"], ["", ""]),
    known(100_000_009, Class::Fatal, ["Signature is empty", "参数 Signature 为空"], ["", ""]),
    known(100_000_010, Class::App, ["the server could not get the ServerSecret", "服务端无法获取 ServerSecret"], ["check the AppId", "检查 AppID"]),
    known(100_000_011, Class::App, ["internal error: the server could not get the app's configuration", "内部错误：服务端无法获取该 App 的配置"], ["contact ZEGO's support; perhaps the AppId is wrong", "联系 ZEGO 技术支持；也可能是 AppID 有误"]),
    known(100_000_012, Class::Transient, ["the server could not read the HTTP body", "服务端无法读取 HTTP 正文"], ["try again", "重试"]),
    known(100_000_013, Class::Fatal, ["SignatureVersion is empty", "参数 SignatureVersion 为空"], ["", ""]),
    known(100_000_014, Class::Fatal, ["unsupported SignatureVersion", "不支持参数 SignatureVersion 的值"], ["it must be 2.0", "应为 2.0"]),
    known(100_000_015, Class::Transient, ["internal error of the API gateway", "API 网关内部错误"], ["try again", "重试"]),
    known(100_000_016, Class::Fatal, ["the app is not configured for the production environment", "该 App 没有配置正式环境"], ["check the app in the ZEGO console", "在 ZEGO 控制台检查该 App"]),
    known(100_000_017, Class::Fatal, ["the service is not enabled for the app", "该 App 没有开通此服务"], ["enable In-app Chat for the app", "为该 App 开通即时通讯"]),
    known(660_000_001, Class::Transient, ["general error on the server", "服务端通用错误"], ["try again", "重试"]),
    known(660_000_002, Class::Rejected, ["input parameter missing or invalid", "输入参数缺失或无效"], ["check the row's values", "检查该行的值"]),
    known(660_000_003, Class::Transient, ["logic error on the server", "服务端逻辑错误"], ["try again", "重试"]),
    known(660_000_012, Class::Rejected, ["user ID longer than 32 bytes", "用户 ID 超过 32 字节"], ["check the row's values", "检查该行的值"]),
    known(660_000_028, Class::Fatal, ["not supported in the free edition", "免费版不支持"], ["upgrade the plan", "升级套餐"]),
    known(660_200_001, Class::Rejected, ["the user does not exist, has logged out, or never logged in", "用户不存在、已登出或从未登录"], ["register the user or drop the row", "注册该用户，或去掉该行"]),
    known(660_300_005, Class::Limited, ["AppID-level call frequency exceeded", "超过 AppID 级别的调用频率限制"], ["slow down", "降低速率"]),
    known(660_300_006, Class::Limited, ["group or room-level call frequency exceeded", "超过群组或房间级别的调用频率限制"], ["slow down", "降低速率"]),
    known(660_500_002, Class::Rejected, ["FromUserId is not registered", "参数 FromUserId 的用户未注册"], ["register the user or drop the row", "注册该用户，或去掉该行"]),
    known(660_600_001, Class::Rejected, ["the group does not exist", "群组不存在"], ["check the group ID", "检查群组 ID"]),
    known(660_600_009, Class::Rejected, ["group information could not be read", "无法获取群组信息"], ["check the group ID", "检查群组 ID"]),
    known(660_600_015, Class::Transient, ["database error on the server", "服务端数据库错误"], ["try again", "重试"]),
    known(660_600_024, Class::Rejected, ["the user is not in the group", "用户不在群组中"], ["check the membership", "检查群成员"]),
    known(660_700_008, Class::Rejected, ["user information could not be read", "无法获取用户信息"], ["check the user ID", "检查用户 ID"]),
    known(660_700_012, Class::Rejected, ["the user is not registered", "用户未注册"], ["register the user or drop the row", "注册该用户，或去掉该行"]),
    known(660_700_013, Class::Transient, ["user information query failed", "查询用户信息失败"], ["try again", "重试"]),
    known(660_700_015, Class::Rejected, ["the peer is not registered", "单聊的对方用户未注册"], ["register the user or drop the row", "注册该用户，或去掉该行"]),
    known(660_700_016, Class::Transient, ["user information sync failed", "同步用户信息失败"], ["try again", "重试"]),
    known(660_700_017, Class::Transient, ["user information update failed", "更新用户信息失败"], ["try again", "重试"]),
    known(660_800_001, Class::Rejected, ["the peer is not registered", "单聊的对方用户未注册"], ["register the user or drop the row", "注册该用户，或去掉该行"]),
    known(660_800_002, Class::Outside, ["conversation missing or not among the user's newest 1000", "会话不存在，或不属于用户最新的 1000 个会话"], ["check the conversation ID; ask ZEGO to raise the limit and send these rows again", "检查会话 ID；联系 ZEGO 技术支持提高上限，然后重新发送这些行"]),
    known(660_800_053, Class::Transient, ["conversation list query failed on the server", "服务端查询会话列表失败"], ["try again", "重试"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_so_that_every_code_is_found() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
        for known in TABLE {
            assert_eq!(find(known.code), Some(known));
        }
    }

    #[test]
    fn every_code_has_both_languages_and_the_same_text_has_the_same_translation() {
        // Other words for the same, and punctuation of the other language.
        const WRONG: [&str; 9] = ["限额", "密钥", "错误码", "状态码", "客服", "AppId", ",", ";", ":"];
        let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        let mut translations = std::collections::HashMap::new();
        let texts = TABLE
            .iter()
            .flat_map(|known| [(known.meaning, known.meaning_zh), (known.advice, known.advice_zh)])
            .chain(Class::ALL.map(|class| (class.handling(), class.handling_zh())));
        for (english, chinese) in texts {
            assert_eq!(english.is_empty(), chinese.is_empty(), "{english}");
            assert!(english.is_ascii(), "{english}");
            assert!(chinese.is_empty() || is_chinese(chinese), "{chinese}");
            // Only the parameter has this form.
            let words = chinese.replace("参数 AppId ", "");
            let wrong = WRONG.iter().find(|word| words.contains(**word));
            assert_eq!(wrong, None, "{chinese}");
            assert_eq!(
                english.contains("ServerSecret"),
                chinese.contains("ServerSecret"),
                "{english}"
            );
            assert_eq!(*translations.entry(english).or_insert(chinese), chinese, "{english}");
        }
        for known in TABLE {
            assert!(!known.meaning.is_empty(), "{}", known.code);
        }
    }

    #[test]
    fn only_zero_is_success() {
        let ok: Vec<i64> = TABLE
            .iter()
            .filter(|known| known.class == Class::Ok)
            .map(|known| known.code)
            .collect();
        assert_eq!(ok, [0]);
    }
}
