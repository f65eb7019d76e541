//! Text in other encodings than UTF-8; without the feature `encodings`, says that it is in another one.

use std::io::{self, Read};

#[cfg(not(feature = "encodings"))]
use none::decoder;
#[cfg(not(feature = "encodings"))]
pub(in crate::rows) use none::guesses;
#[cfg(not(feature = "encodings"))]
pub use none::{Encoding, encoding};
#[cfg(feature = "encodings")]
use whatwg::decoder;
#[cfg(feature = "encodings")]
pub(in crate::rows) use whatwg::guesses;
#[cfg(feature = "encodings")]
pub use whatwg::{Encoding, encoding};

const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";

/// What follows a byte order mark in UTF-8, and whether it was in another encoding. The encoding is that of the mark; without
/// one it is `chosen`, or else UTF-8. `start` is what `reader` begins with.
pub(super) fn decoded(
    start: &[u8],
    mut reader: Box<dyn Read + Send>,
    chosen: Option<&'static Encoding>,
) -> io::Result<(Box<dyn Read + Send>, bool)> {
    if start.starts_with(UTF_8_MARK) {
        reader.read_exact(&mut [0; UTF_8_MARK.len()])?;
        return Ok((reader, false));
    }
    decoder(start, reader, chosen)
}

#[cfg(feature = "encodings")]
mod whatwg {
    use std::io::{self, Read};

    /// A WHATWG encoding, by its label: see [`encoding`].
    pub use encoding_rs::Encoding;
    use encoding_rs_io::DecodeReaderBytesBuilder;

    pub fn decoder(
        start: &[u8],
        mut reader: Box<dyn Read + Send>,
        chosen: Option<&'static Encoding>,
    ) -> io::Result<(Box<dyn Read + Send>, bool)> {
        let marked = Encoding::for_bom(start);
        if let Some((_, mark)) = marked {
            reader.read_exact(&mut [0; 3][..mark])?;
        }
        let encoding = marked.map(|(encoding, _)| encoding).or(chosen);
        let Some(encoding) = encoding.filter(|encoding| *encoding != encoding_rs::UTF_8) else {
            return Ok((reader, false));
        };
        let decoder = DecodeReaderBytesBuilder::new()
            .encoding(Some(encoding))
            .bom_override(false)
            .build(reader);
        Ok((Box::new(decoder), true))
    }

    /// The text as GBK and as Big5, which are what text in no known encoding most likely is.
    pub fn guesses(text: &[u8]) -> [Option<(String, &'static Encoding)>; 2] {
        [encoding_rs::GBK, encoding_rs::BIG5].map(|encoding| {
            let decoded = encoding.decode_without_bom_handling(text).0;
            Some((decoded.into_owned(), encoding))
        })
    }

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
}

#[cfg(not(feature = "encodings"))]
mod none {
    use std::io::{self, Read};

    /// There is no other encoding than UTF-8 without the feature `encodings`.
    #[derive(Debug, PartialEq, Eq)]
    pub enum Encoding {}

    impl Encoding {
        /// Its name.
        pub fn name(&self) -> &'static str {
            match *self {}
        }
    }

    /// No encoding has this label, without the feature `encodings`.
    pub fn encoding(_: &str) -> Option<&'static Encoding> {
        None
    }

    pub fn decoder(
        start: &[u8],
        reader: Box<dyn Read + Send>,
        _: Option<&'static Encoding>,
    ) -> io::Result<(Box<dyn Read + Send>, bool)> {
        match start {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is in UTF-16, and this build has no feature `encodings`; convert it to UTF-8 first",
            )),
            _ => Ok((reader, false)),
        }
    }

    pub fn guesses(_: &[u8]) -> [Option<(String, &'static Encoding)>; 2] {
        [None, None]
    }
}
