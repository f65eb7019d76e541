//! How an input is read, where the input itself doesn't show it.

use super::columns::Columns;
use super::types::Types;

/// How an input is read, where its first line doesn't show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// The delimiter; detected from the first line if `None`.
    pub delimiter: Option<u8>,
    /// Which columns are the user, the conversation and the type.
    pub columns: Columns,
    /// Additional words for the types.
    pub types: Types,
    /// The encoding, if it is neither UTF-8 nor UTF-16 with a byte order mark.
    pub encoding: Option<&'static Encoding>,
}

/// A WHATWG encoding, by its label: see [`encoding`].
pub use encoding_rs::Encoding;

/// The encoding with this WHATWG label, or with this Windows code page number, such as `cp936`.
///
/// ```
/// assert!(zim_batch::rows::encoding("gbk").is_some());
/// assert!(zim_batch::rows::encoding("windows-1252").is_some());
/// assert_eq!(zim_batch::rows::encoding("CP936"), zim_batch::rows::encoding("gbk"));
/// assert!(zim_batch::rows::encoding("klingon").is_none());
/// ```
pub fn encoding(label: &str) -> Option<&'static Encoding> {
    let label = label.trim().to_ascii_lowercase();
    Encoding::for_label_no_replacement(label.as_bytes()).or_else(|| {
        let page = ["cp", "windows-", "ms"]
            .iter()
            .find_map(|prefix| label.strip_prefix(prefix));
        Some(match page.unwrap_or(&label).parse().ok()? {
            932_u32 => encoding_rs::SHIFT_JIS,
            936 => encoding_rs::GBK,
            949 => encoding_rs::EUC_KR,
            950 => encoding_rs::BIG5,
            54936 => encoding_rs::GB18030,
            65001 => encoding_rs::UTF_8,
            page => return Encoding::for_label_no_replacement(format!("windows-{page}").as_bytes()),
        })
    })
}
