//! Random rows of every kind, and what is expected of each.

use fastrand::Rng;

/// A row of the input.
#[derive(Clone, Debug)]
pub struct Row {
    /// The 1-based line on which it begins.
    pub line: u64,
    /// User, conversation and type as they are sent; `None` if the row is invalid.
    pub key: Option<[Vec<u8>; 3]>,
}

/// An input file and its rows.
pub struct Input {
    pub text: String,
    pub rows: Vec<Row>,
}

/// `count` different rows in a random format: line breaks, header, delimiter, byte order mark.
pub fn random(count: usize, rng: &mut Rng) -> Input {
    let line_end = if rng.bool() { "\n" } else { "\r\n" };
    let delimiter = *rng.choice(&[',', '\t', ';']).expect("there are some");
    let has_header = delimiter != ',' || rng.bool();
    let mut text = String::new();
    if rng.bool() {
        text.push('\u{feff}');
    }
    if has_header {
        text += &format!("ConvType{delimiter}user_id{delimiter}note{delimiter}CONV{line_end}");
    }
    let mut rows = Vec::with_capacity(count);
    let (mut line, mut counted) = (1, 0);
    for number in 0..count {
        if has_header && rng.u8(..) < 4 {
            text += line_end; // a blank line, which is no row
        }
        line += text[counted..].matches('\n').count() as u64;
        counted = text.len();
        let mut fields = [id("u", number, rng), id("c", number, rng), kind(rng).to_owned()];
        let is_invalid = number > 0 && rng.u8(..) < 8;
        if is_invalid {
            match rng.u8(..3) {
                0 => fields[0].clear(),
                1 => fields[1] = "x".repeat(33),
                _ => fields[2] = "7".into(),
            }
        }
        let [user, conv, kind] = fields.each_ref().map(|field| quoted(field, delimiter, rng));
        text += &if has_header {
            [kind, user, "a note".into(), conv].join(&delimiter.to_string())
        } else {
            [user, conv, kind].join(&delimiter.to_string())
        };
        text += line_end;
        let sent_as = match fields[2].trim().to_lowercase().as_str() {
            "0" | "peer" => "0",
            _ => "2",
        };
        let [user, conv, _] = fields;
        let key = [user.into_bytes(), conv.into_bytes(), sent_as.into()];
        rows.push(Row {
            line,
            key: (!is_invalid).then_some(key),
        });
    }
    Input { text, rows }
}

/// An ID of at most 32 bytes with this number and other valid characters.
fn id(letter: &str, number: usize, rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => format!("{letter}{number}\nnext line"),
        1 => format!("{letter}\r\n{number}\"quoted\""),
        2 => format!("#{letter}{number}, 1; 2\t3"),
        3 => format!(" {letter}{number} "),
        4 => format!("{letter}{number}é漢字🦀"),
        5 => format!("\"{letter}{number}"),
        _ => format!("{letter}{number}"),
    }
}

fn kind(rng: &mut Rng) -> &'static str {
    rng.choice(["0", "peer", "2", "group", " Group ", "PEER"])
        .expect("there are some")
}

fn quoted(field: &str, delimiter: char, rng: &mut Rng) -> String {
    let has_to_be = field.contains(['"', '\r', '\n', delimiter]);
    if has_to_be || rng.u8(..) < 16 {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
