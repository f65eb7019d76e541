//! The proxy that the environment names.
//!
//! HTTP libraries ignore an invalid setting and then send signed requests directly to the endpoint. Here such a setting is
//! an error. The interpretation of settings and of `NO_PROXY` is left to [`Matcher`], which reqwest uses too.

use std::env;
use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Proxy;
use url::Url;

use super::error::BuildError;

/// The variables for the proxy of an `https` endpoint. The first one that is set and not empty is used.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// How the endpoint is reached.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// No proxy in the environment; reqwest may still use a system setting.
    Direct,
    /// Directly, because of `NO_PROXY`.
    NoProxy,
    /// Through a proxy.
    Through {
        /// The proxy, with its user and password.
        proxy: Box<Proxy>,
        /// Its name, without them.
        name: ProxyName,
    },
}

/// A proxy for messages: its URL without user and password, and the variable that names it.
#[derive(Debug, Clone)]
pub(super) struct ProxyName {
    url: String,
    pub variable: &'static str,
}

impl fmt::Display for ProxyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.url, self.variable)
    }
}

/// The proxy through which requests to this endpoint go, because the environment names it: its URL, without user and
/// password, and the variable.
///
/// # Errors
/// The variable can't be used.
pub fn proxy_for(endpoint: &Url) -> Result<Option<(String, &'static str)>, BuildError> {
    if endpoint.scheme() == "https" {
        Ok(match route(endpoint)? {
            Route::Through { name, .. } => Some((name.url, name.variable)),
            Route::Direct | Route::NoProxy => None,
        })
    } else {
        Ok(None)
    }
}

/// How an `https` endpoint is reached.
pub(super) fn route(endpoint: &Url) -> Result<Route, BuildError> {
    let set = |variable: &&str| env::var_os(variable).is_some_and(|value| !value.is_empty());
    let Some(variable) = VARIABLES.into_iter().find(set) else {
        return Ok(Route::Direct);
    };
    let value = env::var(variable).map_err(|_| BuildError::Proxy(variable))?;
    let no_proxy = match ["NO_PROXY", "no_proxy"].into_iter().find(|name| set(name)) {
        Some(name) => env::var(name).map_err(|_| BuildError::Proxy(name))?,
        None => String::new(),
    };
    through(endpoint, variable, &value, &no_proxy)
}

fn through(endpoint: &Url, variable: &'static str, value: &str, no_proxy: &str) -> Result<Route, BuildError> {
    let endpoint = endpoint.as_str().parse().map_err(|_| BuildError::Endpoint)?;
    let unusable = || BuildError::Proxy(variable);
    // Such a character in a password would end the URL's authority early, and the user would be mistaken for the proxy.
    let authority = value.split_once("://").map_or(value, |(_, rest)| rest);
    let ends_early = authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(['/', '?', '\\']));
    let intercept = if ends_early || value.contains('#') {
        return Err(unusable());
    } else {
        Matcher::builder()
            .all(value)
            .build()
            .intercept(&endpoint)
            .ok_or_else(unusable)?
    };
    let uri = intercept.uri();
    let authority = uri.authority().ok_or_else(unusable)?.as_str();
    // An @ that is not percent-encoded ends the password too early; the rest of it must not be shown.
    if authority.contains('@') {
        return Err(unusable());
    }
    let url = format!("{}://{authority}", uri.scheme_str().unwrap_or("http"));
    if Matcher::builder()
        .all(value)
        .no(no_proxy)
        .build()
        .intercept(&endpoint)
        .is_none()
    {
        return Ok(Route::NoProxy);
    }
    let proxy = Proxy::all(value).map_err(|_| unusable())?;
    let name = ProxyName { url, variable };
    let proxy = Box::new(proxy);
    Ok(Route::Through { proxy, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route_through(value: &str, no_proxy: &str) -> Result<Option<String>, BuildError> {
        let endpoint = "https://zim-api.zego.im/".parse().unwrap();
        match through(&endpoint, "HTTPS_PROXY", value, no_proxy)? {
            Route::Through { name, .. } => Ok(Some(name.to_string())),
            _ => Ok(None),
        }
    }

    #[test]
    fn a_proxy_is_named_without_its_user_and_password() {
        for (value, url) in [
            ("http://user:s3cret@proxy.example:3128", "http://proxy.example:3128"),
            ("https://proxy.example", "https://proxy.example"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("socks5h://user:s3cret@127.0.0.1:1080", "socks5h://127.0.0.1:1080"),
        ] {
            let name = route_through(value, "localhost,example.com").unwrap();
            assert_eq!(name.unwrap(), format!("the proxy {url} (HTTPS_PROXY)"));
        }
    }

    #[test]
    fn a_setting_that_can_t_be_used_is_an_error_that_does_not_show_it() {
        for value in [
            "http://us er:pw@proxy:1",
            "socks://proxy:1",
            "ftp://proxy",
            "http://",
            "://",
            "http://us:p@pw@proxy:1",
            "socks5://us:p@pw@proxy:1",
            "http://us#pw@proxy:1",
            "http://us:1/pw@proxy:1",
            "http://us:1?pw@proxy:1",
            "http://us:/pw@proxy",
            "us:1\\pw@proxy:1",
        ] {
            let error = route_through(value, "").unwrap_err();
            assert!(matches!(error, BuildError::Proxy("HTTPS_PROXY")), "{value}: {error:?}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn no_proxy_excludes_hosts() {
        for no_proxy in ["*", "zego.im", "a, .zego.im"] {
            assert_eq!(route_through("http://proxy:1", no_proxy).unwrap(), None, "{no_proxy}");
        }
    }
}
