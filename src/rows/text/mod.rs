//! The text of an input as UTF-8: decompressed and decoded.

mod compression;
mod encoding;

use std::io::{self, Read};

pub(super) use compression::Compression;
pub(super) use encoding::guesses;
pub use encoding::{Encoding, encoding};

/// The text of the input as UTF-8, decompressed if its first bytes are those of gzip or zstd.
pub(super) struct Text {
    pub reader: Box<dyn Read + Send>,
    /// It was in another encoding: bytes that could not be decoded are U+FFFD.
    pub is_decoded: bool,
    /// The first four bytes, decompressed but not decoded: they show what kind of file it is.
    pub signature: Vec<u8>,
}

impl Text {
    /// The encoding is that of a byte order mark; without one it is `encoding`, or else UTF-8.
    pub fn new(reader: Box<dyn Read + Send>, encoding: Option<&'static Encoding>) -> io::Result<Text> {
        let (start, reader) = first_bytes(Box::new(RetryInterrupted(reader)))?;
        let (signature, reader) = match Compression::of(&start) {
            Some(compression) => first_bytes(compression.decoder(reader)?)?,
            None => (start, reader),
        };
        let (reader, is_decoded) = encoding::decoded(&signature, reader, encoding)?;
        Ok(Text {
            reader,
            is_decoded,
            signature,
        })
    }
}

/// Retries a read that a signal has interrupted: not every decoder does.
struct RetryInterrupted<R>(R);

impl<R: Read> Read for RetryInterrupted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Returns the first four bytes, and a reader that still includes them.
fn first_bytes(mut reader: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut start = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut start)?;
    let whole = io::Cursor::new(start.clone()).chain(reader);
    Ok((start, Box::new(whole)))
}
