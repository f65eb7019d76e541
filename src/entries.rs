//! What became of the entries that ZIM has listed for a user: said at the end of the message of the user's record, and read
//! from there.

use std::fmt;

/// The entries that ZIM has listed for a user, if not each of them became a row.
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
    /// Those of a user's record, with its message and so many conversations.
    pub fn of_record(message: &str, conversations: u64) -> Entries {
        let each_is_a_row = || Entries {
            all: conversations,
            ..Entries::default()
        };
        Entries::of_message(message).unwrap_or_else(each_is_a_row)
    }

    /// Whether there were as many as ZIM lists: the user may have older conversations.
    pub fn are_full(&self) -> bool {
        self.all >= NEWEST
    }

    /// Parses the end of a message; `None` if it says nothing, because each entry became a row.
    fn of_message(message: &str) -> Option<Entries> {
        let (_, note) = message.rsplit_once(BEGIN)?;
        let (all, counts) = note.split_once(" entries, ")?;
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
        Some(entries)
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
            assert_eq!(Entries::of_message(&format!("success; of course{text}")), Some(entries));
        }
        assert_eq!(Entries::of_message("success; of course"), None);
        let each_is_a_row = Entries {
            all: 7,
            ..Entries::default()
        };
        assert_eq!(each_is_a_row.to_string(), "");
    }
}
