//! The input of a job: its bytes, and what is expected of each of its lines, without the program's reader.

use crate::life::{Dialect, Fault, FeedKind, JobPlan, Line};
use crate::world::Key;

/// A row or a user of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The line on which it begins.
    pub line: u64,
    /// `None`: it is not valid. A user has only the first field.
    pub key: Option<Key>,
}

/// The bytes of an input with these lines.
pub fn write(dialect: Dialect, lines: &[Line], are_users: bool) -> Vec<u8> {
    let mut text = String::from(if dialect.bom { "\u{feff}" } else { "" });
    let header = match (are_users, dialect.chinese) {
        (true, false) => ["user", "note"].as_slice(),
        (true, true) => &["用户ID", "note"],
        (false, false) => &["user", "conv", "type", "note"],
        (false, true) => &["用户ID", "会话ID", "会话类型", "note"],
    };
    push(&mut text, dialect, header);
    append(&mut text, dialect, lines, are_users);
    text.into_bytes()
}

/// Adds lines to an input.
pub fn append(text: &mut String, dialect: Dialect, lines: &[Line], are_users: bool) {
    for line in lines {
        let [user, conv, conv_type] = fields(line);
        let fields: &[&str] = if are_users {
            &[&user, "n"]
        } else {
            &[&user, &conv, &conv_type, ""]
        };
        push(text, dialect, fields);
    }
}

fn fields(line: &Line) -> [String; 3] {
    let (fault, [user, conv, conv_type]) = match line {
        Line::Item(item) => return item.clone(),
        Line::Invalid(fault, item) => (fault, item.clone()),
    };
    match fault {
        Fault::NoUser => [String::new(), conv, conv_type],
        Fault::LongUser => ["x".repeat(33), conv, conv_type],
        Fault::NoConv => [user, String::new(), conv_type],
        Fault::BadType => [user, conv, "1".to_owned()],
    }
}

fn push(text: &mut String, dialect: Dialect, fields: &[&str]) {
    let field = |field: &&str| {
        let needs_quotes = |c: char| c == dialect.delimiter || matches!(c, '"' | '\n' | '\r' | ',' | ';' | '\t');
        if dialect.quotes || field.contains(needs_quotes) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            (*field).to_owned()
        }
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    text.push_str(&fields.join(&dialect.delimiter.to_string()));
    text.push_str(if dialect.crlf { "\r\n" } else { "\n" });
}

/// The bytes of each line of a job's input, the header first.
pub fn lines_of(plan: &JobPlan, lines: &[Line]) -> Vec<Vec<u8>> {
    let are_users = plan.users.is_some();
    let line = |line: &Line| {
        let mut text = String::new();
        append(&mut text, plan.dialect, std::slice::from_ref(line), are_users);
        text.into_bytes()
    };
    let header = write(plan.dialect, &[], are_users);
    std::iter::once(header).chain(lines.iter().map(line)).collect()
}

/// The beginning of a line, cut off within its first field.
pub fn within_user(plan: &JobPlan, line: &[u8]) -> Vec<u8> {
    let mut is_quoted = false;
    let field = line.iter().take_while(|byte| {
        is_quoted ^= **byte == b'"';
        is_quoted || **byte != plan.dialect.delimiter as u8
    });
    line[..field.count().div_ceil(2).max(1)].to_vec()
}

/// What is expected of these lines of a job.
pub fn expected(plan: &JobPlan, lines: &[Line]) -> Vec<Expected> {
    let (dialect, are_users) = (plan.dialect, plan.users.is_some());
    let mut rows = expected_of_file(dialect, lines, are_users);
    let is_numbered = plan
        .feed
        .as_ref()
        .is_some_and(|feed| FeedKind::is_of_program(feed.kind));
    if is_numbered {
        rows.iter_mut().zip(1..).for_each(|(row, number)| row.line = number);
    }
    rows
}

fn expected_of_file(dialect: Dialect, lines: &[Line], are_users: bool) -> Vec<Expected> {
    let mut at = 2;
    let expect = |line: &Line| {
        let mut text = String::new();
        append(&mut text, dialect, std::slice::from_ref(line), are_users);
        let begins = at;
        at += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        let key = match line {
            Line::Item(_) if are_users => Some([fields(line)[0].clone(), String::new(), String::new()]),
            Line::Item([user, conv, conv_type]) => {
                let is_group = matches!(conv_type.as_str(), "2" | "Group");
                Some([user.clone(), conv.clone(), if is_group { "2" } else { "0" }.to_owned()])
            }
            Line::Invalid(..) => None,
        };
        Expected { line: begins, key }
    };
    lines.iter().map(expect).collect()
}

/// The lines with all invalid ones corrected.
pub fn mend(lines: &mut [Line]) {
    for line in lines {
        if let Line::Invalid(_, item) = line {
            *line = Line::Item(item.clone());
        }
    }
}
