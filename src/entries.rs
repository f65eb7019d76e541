//! What became of the entries that ZIM has listed for a user. In a list report, whose columns are fixed, it is the end of the
//! message: written and read by `journal/record.rs` alone.

use std::fmt;

/// The entries that ZIM has listed for a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    /// How many there were.
    pub all: u64,
    /// Those that were not selected, by time or by type.
    pub unselected: u64,
    /// Those that can't be cleared: without an ID, or of another type.
    pub unusable: u64,
    /// Those of conversations that were listed already.
    pub repeated: u64,
}

/// ZIM lists a user's newest 1000 conversations (ZEGO, "QueryConversationList").
pub(crate) const NEWEST: u64 = 1000;

const BEGIN: &str = "; of ";
const UNSELECTED: &str = "not selected: ";
const UNUSABLE: &str = "without an ID or of another type: ";
const REPEATED: &str = "listed again: ";

impl Entries {
    /// So many entries, each of which became a row.
    pub fn all_rows(entries: u64) -> Entries {
        Entries {
            all: entries,
            ..Entries::default()
        }
    }

    /// Whether there were as many as ZIM lists: the user may have older conversations.
    pub fn are_full(&self) -> bool {
        self.all >= NEWEST
    }

    /// Separates what a message says at its end; `None` if it says nothing, because each entry became a row.
    pub fn split_off(message: &str) -> (&str, Option<Entries>) {
        let (text, note) = message.split_at(message.rfind(BEGIN).unwrap_or(message.len()));
        match Entries::parse(note) {
            Some(entries) => (text, Some(entries)),
            None => (message, None),
        }
    }

    /// Parses exactly what is written.
    fn parse(note: &str) -> Option<Entries> {
        let (all, counts) = note.strip_prefix(BEGIN)?.split_once(" entries, ")?;
        let mut entries = Entries {
            all: all.parse().ok()?,
            ..Entries::default()
        };
        for count in counts.split(", ") {
            for (name, field) in [
                (UNSELECTED, &mut entries.unselected),
                (UNUSABLE, &mut entries.unusable),
                (REPEATED, &mut entries.repeated),
            ] {
                if let Some(number) = count.strip_prefix(name) {
                    *field = number.parse().ok()?;
                }
            }
        }
        (entries.to_string() == note).then_some(entries)
    }
}

/// What is appended to the message: nothing if each entry became a row.
impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (UNSELECTED, self.unselected),
            (UNUSABLE, self.unusable),
            (REPEATED, self.repeated),
        ];
        let mut separator = "";
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            if separator.is_empty() {
                write!(f, "{BEGIN}{} entries, ", self.all)?;
            }
            write!(f, "{separator}{name}{count}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_message_is_read_as_it_is_written() {
        for (text, counts) in [
            ("; of 5 entries, listed again: 1", [5, 0, 0, 1]),
            ("; of 9 entries, not selected: 2, listed again: 1", [9, 2, 0, 1]),
            (
                "; of 11 entries, not selected: 3, without an ID or of another type: 4",
                [11, 3, 4, 0],
            ),
        ] {
            let [all, unselected, unusable, repeated] = counts;
            let entries = Entries {
                all,
                unselected,
                unusable,
                repeated,
            };
            assert_eq!(entries.to_string(), text);
            let message = format!("success; of course{text}");
            assert_eq!(Entries::split_off(&message), ("success; of course", Some(entries)));
        }
        for other in ["", "success; of course", "success; of 5 entries, lost: 1"] {
            assert_eq!(Entries::split_off(other), (other, None));
        }
        assert_eq!(Entries::all_rows(7).to_string(), "");
    }
}
