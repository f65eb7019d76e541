//! The body of a POST request: read with a limit, then parsed as one JSON object.
//!
//! Like the query string it is not repaired: a body that is not JSON, not an object or names a field twice is refused.

use std::fmt;
use std::pin::pin;

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes};
use hyper::header::CONTENT_TYPE;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::codes::{BODY_REPEATED, BODY_UNREADABLE, NOT_AN_OBJECT, NOT_JSON_TYPE, Reply};

/// The longest body that is read. The longest sensible one has 100 user IDs of 64 bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The body of a request as it was received.
pub(super) struct RequestBody {
    is_json: bool,
    /// `None` if it was too long or its connection failed.
    bytes: Option<Vec<u8>>,
}

impl RequestBody {
    /// Reads a body to its end. What is beyond the limit is not kept, but read as well, so that the client is ready for
    /// the answer.
    pub async fn read(headers: &HeaderMap, body: impl Body<Data = Bytes>) -> RequestBody {
        let mut body = pin!(body);
        let mut bytes = Some(Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                bytes = None;
                break;
            };
            if let (Some(read), Ok(data)) = (&mut bytes, frame.into_data()) {
                read.extend_from_slice(&data);
                bytes = bytes.filter(|read| read.len() <= MAX_BYTES);
            }
        }
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        RequestBody {
            is_json: is_json(content_type),
            bytes,
        }
    }

    /// Parses the body.
    pub fn object(&self) -> Result<Object, Reply> {
        let bytes = self.bytes.as_ref().ok_or(BODY_UNREADABLE)?;
        if !self.is_json {
            return Err(NOT_JSON_TYPE);
        }
        let mut object: Object = serde_json::from_slice(bytes).map_err(|_| NOT_AN_OBJECT)?;
        object.fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if object.fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(BODY_REPEATED);
        }
        Ok(object)
    }
}

/// Whether a `Content-Type` is `application/json`, with or without parameters.
fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A JSON object. serde_json's own map would keep the last of several fields with the same name.
#[derive(Debug, Default)]
pub(super) struct Object {
    fields: Vec<(String, Value)>,
}

impl Object {
    pub fn get(&self, name: &str) -> Option<&Value> {
        let field = self.fields.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    /// A body that arrived whole, as `application/json`.
    pub(in super::super) fn json(text: &str) -> RequestBody {
        RequestBody {
            is_json: true,
            bytes: Some(text.into()),
        }
    }

    #[test]
    fn the_fields_of_an_object_are_found_by_name() {
        let object = json(r#" {"b":[1],"a":"x","\u0063":null} "#).object().unwrap();
        assert_eq!(object.get("a"), Some(&Value::from("x")));
        assert_eq!(object.get("b"), Some(&Value::from(vec![1])));
        assert_eq!(object.get("c"), Some(&Value::Null));
        assert_eq!(object.get("d"), None);
    }

    #[test]
    fn a_body_that_is_not_one_object_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "1",
            r#""a""#,
            "{",
            "{} x",
            "{'a':1}",
            r#"{"a":1,}"#,
            "a=1",
        ] {
            assert_eq!(json(text).object().err(), Some(NOT_AN_OBJECT), "{text}");
        }
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":3}"#] {
            assert_eq!(json(text).object().err(), Some(BODY_REPEATED), "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_must_be_announced_as_json_and_be_at_most_64_kib_long() {
        let read = async |content_type: &'static str, length: usize| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            let text = format!("{{}}{}", " ".repeat(length - 2));
            let body = RequestBody::read(&headers, Full::new(Bytes::from(text))).await;
            body.object().err()
        };
        for content_type in ["application/json", "Application/JSON ; charset=utf-8"] {
            assert_eq!(read(content_type, 2).await, None, "{content_type}");
        }
        for content_type in [
            "",
            "text/plain",
            "application/jsonp",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(read(content_type, 2).await, Some(NOT_JSON_TYPE), "{content_type}");
        }
        assert_eq!(read("application/json", 65_536).await, None);
        assert_eq!(read("application/json", 65_537).await, Some(BODY_UNREADABLE));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = RequestBody { is_json: true, bytes: Some(bytes) }.object();
        }
    }
}
