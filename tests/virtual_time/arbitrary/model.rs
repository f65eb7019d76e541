//! An independent CSV reader, and the rows that its records should give.

/// A record found by the independent reader.
#[derive(Debug)]
pub struct Found {
    pub line: u64,
    pub fields: Vec<Vec<u8>>,
    pub is_closed: bool,
}

impl Found {
    /// The row that it should give, or `None` if it is invalid.
    pub fn row(&self) -> Option<(Vec<u8>, Vec<u8>, &'static str)> {
        let [user, conv, kind, ..] = &self.fields[..] else {
            return None;
        };
        let is_id = |id: &&Vec<u8>| (1..=32).contains(&id.len()) && std::str::from_utf8(id).is_ok();
        let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
        let kind = match kind.trim_matches([' ', '\t', '\r', '\n', '\x0c']) {
            "0" | "peer" => "0",
            "2" | "group" => "2",
            _ => return None,
        };
        let ids = (Some(user).filter(is_id)?.clone(), Some(conv).filter(is_id)?.clone());
        self.is_closed.then_some((ids.0, ids.1, kind))
    }
}

/// Reads CSV after RFC 4180 and, where it is silent, Python's csv module: a quote within an unquoted field is text, and
/// text after a closing quote belongs to the field. CR, LF and CRLF end lines; blank lines, with or without delimiters,
/// are skipped.
pub fn read_like_python(bytes: &[u8], delimiter: u8) -> Vec<Found> {
    #[derive(PartialEq)]
    enum In {
        FieldStart,
        Text,
        Quotes,
        QuoteInQuotes,
    }
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let mut record = Found {
            line,
            fields: vec![Vec::new()],
            is_closed: true,
        };
        let mut state = In::FieldStart;
        let start = at;
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            let is_line_end = byte == b'\n' || byte == b'\r';
            line += u64::from(is_line_end && !(byte == b'\r' && bytes.get(at) == Some(&b'\n')));
            let field = record.fields.last_mut().expect("there always is one");
            state = match state {
                In::Quotes if byte == b'"' => In::QuoteInQuotes,
                In::Quotes => {
                    field.push(byte);
                    In::Quotes
                }
                In::QuoteInQuotes if byte == b'"' => {
                    field.push(byte);
                    In::Quotes
                }
                In::FieldStart if byte == b'"' => In::Quotes,
                _ if is_line_end => {
                    if byte == b'\r' && bytes.get(at) == Some(&b'\n') {
                        (at, line) = (at + 1, line + 1);
                    }
                    state = In::FieldStart;
                    break;
                }
                _ if byte == delimiter => {
                    record.fields.push(Vec::new());
                    In::FieldStart
                }
                _ => {
                    field.push(byte);
                    In::Text
                }
            };
        }
        record.is_closed = state != In::Quotes;
        let is_blank =
            !bytes[start..at].contains(&b'"') && record.fields.iter().all(|field| field.trim_ascii().is_empty());
        if !is_blank {
            found.push(record);
        }
    }
    found
}
