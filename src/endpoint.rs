//! Where ZIM's server API is reached, and which addresses are this machine's own.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::row::UnknownName;

/// The base URL that ZEGO names first (ZEGO, "Accessing Server APIs"), which leads to the nearest region.
pub const DEFAULT_ENDPOINT: &str = "https://zim-api.zego.im";

/// A region in which ZEGO serves ZIM's API.
///
/// ```
/// use zim_batch::endpoint::Region;
///
/// let region: Region = "fra".parse()?;
/// assert_eq!(region.endpoint().as_str(), "https://zim-api-fra.zego.im/");
/// # Ok::<(), zim_batch::row::UnknownName>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Region {
    /// Shanghai.
    Sha,
    /// Hong Kong.
    Hkg,
    /// Frankfurt.
    Fra,
    /// California.
    Lax,
    /// Mumbai.
    Bom,
    /// Singapore.
    Sgp,
}

impl Region {
    /// All of them.
    pub const ALL: [Region; 6] = [
        Region::Sha,
        Region::Hkg,
        Region::Fra,
        Region::Lax,
        Region::Bom,
        Region::Sgp,
    ];

    /// The abbreviation in the host name.
    pub fn as_str(self) -> &'static str {
        match self {
            Region::Sha => "sha",
            Region::Hkg => "hkg",
            Region::Fra => "fra",
            Region::Lax => "lax",
            Region::Bom => "bom",
            Region::Sgp => "sgp",
        }
    }

    /// The city or state in which it is.
    pub fn location(self) -> &'static str {
        match self {
            Region::Sha => "Shanghai",
            Region::Hkg => "Hong Kong",
            Region::Fra => "Frankfurt",
            Region::Lax => "California",
            Region::Bom => "Mumbai",
            Region::Sgp => "Singapore",
        }
    }

    /// The base URL in this region.
    pub fn endpoint(self) -> Url {
        let url = format!("https://zim-api-{self}.zego.im");
        url.parse().expect("it is a URL")
    }
}

/// Parses the abbreviation, ignoring case.
impl FromStr for Region {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Region, UnknownName> {
        Region::ALL
            .into_iter()
            .find(|region| region.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownName::new(text, "region", &Region::ALL.map(Region::as_str)))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a URL leads to a loopback address: `127.0.0.0/8` or `::1`, or `localhost`, which the client does not look up.
///
/// ```
/// use zim_batch::endpoint::is_loopback;
///
/// assert!(is_loopback(&"http://localhost:8080".parse()?));
/// assert!(!is_loopback(&"http://localhost.example".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => LOCALHOST.iter().any(|localhost| name.eq_ignore_ascii_case(localhost)),
        None => false,
    }
}

/// The names of this machine's own address (RFC 6761).
pub(crate) const LOCALHOST: [&str; 2] = ["localhost", "localhost."];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_loopback_address_is_one() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("2130706433", true),
            ("localhost", true),
            ("LOCALHOST.", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("128.0.0.1", false),
            ("[::2]", false),
            ("[::ffff:10.0.0.1]", false),
            ("0.0.0.0", false),
            ("localhost.example", false),
        ] {
            let url = format!("http://{host}:8080").parse().unwrap();
            assert_eq!(is_loopback(&url), expected, "{host}");
        }
    }
}
