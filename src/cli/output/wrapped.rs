//! Texts in a table, broken into lines.

use std::fmt::Write as _;

use console::measure_text_width;

/// The width of a table, in columns of a terminal.
const WIDTH: usize = 80;

/// The width of the columns before a text.
pub const INDENT: usize = 27;

/// A text broken between words, and Chinese between characters; all lines after the first are indented.
pub fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    let mut column = INDENT;
    for (index, word) in text.split(' ').enumerate() {
        for (part, piece) in pieces(word).into_iter().enumerate() {
            let space = usize::from(index > 0 && part == 0);
            let width = measure_text_width(piece);
            if (index > 0 || part > 0) && column + space + width > WIDTH {
                let _ = write!(wrapped, "\n{:INDENT$}", "");
                column = INDENT;
            } else if space > 0 {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(piece);
            column += width;
        }
    }
    wrapped
}

/// A word, divided where a line may end: before and after each wide character, but not before closing punctuation nor after
/// an opening bracket.
fn pieces(word: &str) -> Vec<&str> {
    let is_wide = |c: char| measure_text_width(c.encode_utf8(&mut [0; 4])) > 1;
    let mut pieces = Vec::new();
    let mut start = 0;
    for (before, (at, c)) in word.chars().zip(word.char_indices().skip(1)) {
        let may_end = (is_wide(before) || is_wide(c)) && before != '（' && !"，。；：、！？）".contains(c);
        if may_end {
            pieces.push(&word[start..at]);
            start = at;
        }
    }
    pieces.push(&word[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_is_wrapped_by_its_width_and_not_before_punctuation() {
        let text = "会话不存在，或不属于用户最新的 1000 个会话（ZIM 不区分这两种情况）；联系 ZEGO 技术支持提高上限";
        let wrapped = wrapped(text);
        let lines: Vec<&str> = wrapped.lines().collect();
        assert!(lines.len() > 1, "{wrapped}");
        for (index, line) in lines.iter().enumerate() {
            let indented = if index == 0 { INDENT } else { 0 };
            let width = indented + measure_text_width(line);
            assert!(
                width <= WIDTH && (index + 1 == lines.len() || width > WIDTH - 8),
                "{width}: {line}"
            );
            assert!(!line.trim_start().starts_with(['，', '；', '）']), "{line}");
        }
        let joined = lines.iter().map(|line| line.trim_start()).collect::<String>();
        assert_eq!(joined.replace(' ', ""), text.replace(' ', ""));
        assert_eq!(pieces("单聊（peer）的对方"), ["单", "聊", "（peer）", "的", "对", "方"]);
        assert_eq!(pieces("word"), ["word"]);
    }
}
