//! What users' clients would be told, as JSON lines.
//!
//! The API itself has no way to ask for an unread count, so these lines are how a test or a person sees that a clear
//! did something. The service matters more than its record: a sink that fails is reported once and then left alone.

use super::rules::Call;
use serde::Serialize;
use std::io::{self, Write};
use std::time::SystemTime;

/// Where the lines go, until writing there fails.
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
    pub(super) fn new(sink: Option<Box<dyn Write + Send>>) -> Self {
        Self { sink, line: Vec::new() }
    }

    /// Writes that a conversation's unread count has become 0.
    pub(super) fn conversation_changed(&mut self, call: &Call<'_>, at: SystemTime) {
        let Some(sink) = &mut self.sink else {
            return;
        };
        let event = ConversationChanged {
            event: "conversationChanged",
            user: call.user,
            conv: call.conv,
            r#type: call.kind as u8,
            unread: 0,
            at: humantime::format_rfc3339_millis(at).to_string(),
        };
        if let Err(error) = write_line(sink, &mut self.line, &event) {
            tracing::warn!(%error, "the simulator's events can't be written; going on without them");
            self.sink = None;
        }
    }
}

/// A line is put together first and written in one go, so that a reader of the file meets whole lines.
fn write_line(sink: &mut impl Write, line: &mut Vec<u8>, event: &ConversationChanged<'_>) -> io::Result<()> {
    line.clear();
    serde_json::to_writer(&mut *line, event)?;
    line.push(b'\n');
    sink.write_all(line)?;
    sink.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::world::Kind;
    use std::sync::mpsc::{Sender, channel};
    use std::time::{Duration, UNIX_EPOCH};

    /// Passes on what is written, and fails when nobody listens any more.
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
    fn a_change_is_one_line_of_json_written_at_once() {
        let (sender, written) = channel();
        let mut events = Events::new(Some(Box::new(Pipe(sender))));
        let call = Call {
            user: "a\"b",
            conv: "#群",
            kind: Kind::Group,
        };
        events.conversation_changed(&call, UNIX_EPOCH + Duration::from_millis(1_615_186_943_007));
        let expected = concat!(
            r##"{"event":"conversationChanged","user":"a\"b","conv":"#群","type":2,"unread":0,"##,
            r#""at":"2021-03-08T07:02:23.007Z"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(written.recv().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_sink_that_fails_is_given_up() {
        let (sender, written) = channel();
        drop(written);
        let mut events = Events::new(Some(Box::new(Pipe(sender))));
        let call = Call {
            user: "a",
            conv: "b",
            kind: Kind::Peer,
        };
        events.conversation_changed(&call, UNIX_EPOCH);
        assert!(events.sink.is_none());
        events.conversation_changed(&call, UNIX_EPOCH);
    }
}
