//! The events that ZIM sends to its users' clients, as JSON lines.
//!
//! The API has no call that returns an unread count. These lines show what a clear has changed. If the sink fails, the
//! simulator logs one warning and continues without events.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::conversation::ConversationKey;

/// Writes events to a sink until the sink fails.
pub(super) struct Events {
    sink: Option<Box<dyn Write + Send>>,
    line: Vec<u8>,
}

#[derive(Serialize)]
struct ConversationChanged<'a> {
    event: &'static str,
    user: &'a str,
    conv: &'a str,
    r#type: u8,
    unread: u32,
    at: String,
}

impl Events {
    pub fn new(sink: Option<Box<dyn Write + Send>>) -> Events {
        Events { sink, line: Vec::new() }
    }

    /// Writes that a conversation's unread count has become 0.
    pub fn conversation_changed(&mut self, key: &ConversationKey<'_>, at: SystemTime) {
        let Some(sink) = &mut self.sink else {
            return;
        };
        let event = ConversationChanged {
            event: "conversationChanged",
            user: key.user,
            conv: key.conv,
            r#type: key.conv_type as u8,
            unread: 0,
            at: humantime::format_rfc3339_millis(at).to_string(),
        };
        if let Err(error) = write_line(sink, &mut self.line, &event) {
            tracing::warn!(%error, "the simulator can't write its events; continuing without them");
            self.sink = None;
        }
    }
}

/// Writes the line with one call, so that readers of the file see whole lines.
fn write_line(sink: &mut impl Write, line: &mut Vec<u8>, event: &ConversationChanged<'_>) -> io::Result<()> {
    line.clear();
    serde_json::to_writer(&mut *line, event)?;
    line.push(b'\n');
    sink.write_all(line)?;
    sink.flush()
}

#[cfg(test)]
mod tests {
    use super::super::conversation::ConvType;
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::time::{Duration, UNIX_EPOCH};

    /// Sends what is written to a channel, and fails once the receiver is gone.
    struct Pipe(Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_change_is_one_line_of_json_written_immediately() {
        let (sender, written) = channel();
        let mut events = Events::new(Some(Box::new(Pipe(sender))));
        let key = ConversationKey {
            user: "a\"b",
            conv: "#群",
            conv_type: ConvType::Group,
        };
        events.conversation_changed(&key, UNIX_EPOCH + Duration::from_millis(1_615_186_943_007));
        let expected = concat!(
            r##"{"event":"conversationChanged","user":"a\"b","conv":"#群","type":2,"unread":0,"##,
            r#""at":"2021-03-08T07:02:23.007Z"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(written.recv().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_sink_that_fails_is_not_used_again() {
        let (sender, written) = channel();
        drop(written);
        let mut events = Events::new(Some(Box::new(Pipe(sender))));
        let key = ConversationKey {
            user: "a",
            conv: "b",
            conv_type: ConvType::Peer,
        };
        events.conversation_changed(&key, UNIX_EPOCH);
        assert!(events.sink.is_none());
        events.conversation_changed(&key, UNIX_EPOCH);
    }
}
