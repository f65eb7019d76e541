//! Decompresses input; without the feature `compression`, says that it is compressed.

use std::io::{self, Read};

/// How an input is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rows) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// As the first bytes of the input show it.
    pub fn of(start: &[u8]) -> Option<Compression> {
        match start {
            [0x1f, 0x8b, ..] => Some(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Decompresses the whole input.
    #[cfg(feature = "compression")]
    pub fn decoder(self, reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::Gzip => Box::new(gzip::Gzip::new(reader)),
            Compression::Zstd => Box::new(zstd::Decoder::new(reader)?),
        })
    }

    /// Refuses the input.
    #[cfg(not(feature = "compression"))]
    pub fn decoder(self, _: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        let kind = match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("it is compressed with {kind}, and this build has no feature `compression`; decompress it first"),
        ))
    }
}

#[cfg(feature = "compression")]
mod gzip {
    use std::io::{self, BufRead, BufReader, Read};

    use flate2::bufread::GzDecoder;

    /// The size of a read, in bytes.
    const CHUNK: usize = 64 * 1024;

    /// Decompresses gzip as gzip(1) does: all members in turn, ignoring zeros after the last one (tape padding).
    pub struct Gzip {
        /// `None` after the last one.
        member: Option<GzDecoder<BufReader<Box<dyn Read + Send>>>>,
    }

    impl Gzip {
        pub fn new(reader: Box<dyn Read + Send>) -> Gzip {
            let reader = BufReader::with_capacity(CHUNK, reader);
            Gzip {
                member: Some(GzDecoder::new(reader)),
            }
        }
    }

    impl Read for Gzip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                let Some(member) = &mut self.member else {
                    return Ok(0);
                };
                let read = member.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                let mut compressed = match self.member.take() {
                    Some(member) => member.into_inner(),
                    None => return Ok(0),
                };
                if skip_zeros(&mut compressed)? {
                    self.member = Some(GzDecoder::new(compressed));
                }
            }
        }
    }

    /// Skips zeros; returns `false` at the end of the input.
    fn skip_zeros(input: &mut impl BufRead) -> io::Result<bool> {
        loop {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let found = zeros < bytes.len();
            input.consume(zeros);
            if found {
                return Ok(true);
            }
        }
    }
}
