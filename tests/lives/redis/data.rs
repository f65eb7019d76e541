//! What a Redis keeps, and its commands: those that the program uses, and some that the tests do. `real.rs` compares them
//! with a real one.

use std::collections::BTreeMap;

/// What a Redis answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Nil,
    Int(i64),
    Status(&'static str),
    Bulk(Vec<u8>),
    Array(Vec<Answer>),
    Error(String),
}

/// The time of day, in microseconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send>;

pub struct Data {
    pub clock: Clock,
    /// Added to the clock, in microseconds.
    pub ahead: i64,
    pub keys: BTreeMap<Vec<u8>, Key>,
    /// It is a replica, or has no memory left.
    pub is_read_only: bool,
    pub is_full: bool,
    /// The script that is under way has written something, so it may go on when there is no memory left.
    pub has_written: bool,
}

#[derive(Debug, Clone)]
pub struct Key {
    value: Value,
    /// In milliseconds since 1970.
    expires: Option<u64>,
}

#[derive(Debug, Clone)]
enum Value {
    Text(Vec<u8>),
    /// In the order in which they were added, as a small hash is kept.
    Hash(Vec<[Vec<u8>; 2]>),
    List,
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

impl Data {
    /// An entry of a run that was not renewed for this time, in microseconds, does not count.
    pub const PRESENT_FOR: u64 = 10_000_000;

    pub fn new(clock: Clock) -> Data {
        Data {
            clock,
            ahead: 0,
            keys: BTreeMap::new(),
            is_read_only: false,
            is_full: false,
            has_written: false,
        }
    }

    /// Its time, in microseconds since 1970.
    pub fn now(&self) -> u64 {
        (self.clock)().saturating_add_signed(self.ahead)
    }

    pub fn expire(&mut self) {
        let now = self.now() / 1000;
        self.keys.retain(|_, key| key.expires.is_none_or(|at| at > now));
    }

    /// Carries out a command.
    pub fn call(&mut self, command: &[Vec<u8>]) -> Answer {
        self.has_written = false;
        self.call_in_script(command)
    }

    /// Carries out a command of a script.
    pub fn call_in_script(&mut self, command: &[Vec<u8>]) -> Answer {
        self.expire();
        self.refused(command)
            .unwrap_or_else(|| self.carry_out(command).unwrap_or_else(Answer::Error))
    }

    /// Why a command that writes is refused.
    fn refused(&mut self, command: &[Vec<u8>]) -> Option<Answer> {
        let name = String::from_utf8_lossy(command.first()?).to_uppercase();
        let needs_memory = matches!(name.as_str(), "SET" | "HSET" | "LPUSH");
        let writes = needs_memory || matches!(name.as_str(), "HDEL" | "PEXPIRE" | "DEL" | "PERSIST");
        let why = if self.is_read_only && writes {
            "READONLY You can't write against a read only replica."
        } else if self.is_full && needs_memory && !self.has_written {
            "OOM command not allowed when used memory > 'maxmemory'."
        } else {
            self.has_written |= writes;
            return None;
        };
        Some(Answer::Error(why.to_owned()))
    }

    fn carry_out(&mut self, command: &[Vec<u8>]) -> Result<Answer, String> {
        let name = command.first().map(|name| String::from_utf8_lossy(name).to_uppercase());
        let name = name.unwrap_or_default();
        let arguments: Vec<&[u8]> = command.iter().skip(1).map(Vec::as_slice).collect();
        Ok(match (name.as_str(), arguments.as_slice()) {
            ("PING", []) => Answer::Status("PONG"),
            ("CLIENT", [b"SETINFO", ..]) => Answer::Status("OK"),
            ("TIME", []) => {
                let now = self.now();
                let parts = [now / 1_000_000, now % 1_000_000];
                Answer::Array(parts.map(|part| Answer::Bulk(part.to_string().into_bytes())).to_vec())
            }
            ("GET", [key]) => match self.value(key) {
                None => Answer::Nil,
                Some(Value::Text(text)) => Answer::Bulk(text.clone()),
                Some(_) => return Err(WRONG_TYPE.into()),
            },
            ("SET", [key, text, more @ ..]) => {
                let expires = match more {
                    [] => None,
                    [_, lasts] => Some(self.later(lasts)?),
                    _ => return Err("ERR syntax error".into()),
                };
                let value = Value::Text(text.to_vec());
                self.keys.insert(key.to_vec(), Key { value, expires });
                Answer::Status("OK")
            }
            ("HSET", [key, pairs @ ..]) => {
                let fields = self.fields(key)?;
                let mut added = 0;
                for pair in pairs.chunks_exact(2) {
                    match fields.iter_mut().find(|[field, _]| field == pair[0]) {
                        Some([_, value]) => *value = pair[1].to_vec(),
                        None => {
                            fields.push([pair[0].to_vec(), pair[1].to_vec()]);
                            added += 1;
                        }
                    }
                }
                Answer::Int(added)
            }
            ("HDEL", [key, field]) => {
                let fields = self.fields(key)?;
                let before = fields.len();
                fields.retain(|[name, _]| name != field);
                let (removed, is_empty) = (before - fields.len(), fields.is_empty());
                if is_empty {
                    self.keys.remove(*key);
                }
                Answer::Int(removed as i64)
            }
            ("HGETALL", [key]) => {
                let all = self.hash(key)?.iter().flatten();
                Answer::Array(all.cloned().map(Answer::Bulk).collect())
            }
            ("HEXISTS", [key, field]) => Answer::Int(self.hash(key)?.iter().any(|[name, _]| name == field).into()),
            ("PEXPIRE", [key, lasts]) => {
                let expires = self.later(lasts)?;
                let key = self.keys.get_mut(*key);
                Answer::Int(key.map(|key| key.expires = Some(expires)).is_some().into())
            }
            ("PTTL", [key]) => {
                let now = self.now() / 1000;
                Answer::Int(match self.keys.get(*key) {
                    None => -2,
                    Some(Key { expires: None, .. }) => -1,
                    Some(Key { expires: Some(at), .. }) => (at - now) as i64,
                })
            }
            ("PERSIST", [key]) => {
                let key = self.keys.get_mut(*key);
                Answer::Int(key.and_then(|key| key.expires.take()).is_some().into())
            }
            ("TYPE", [key]) => Answer::Status(match self.value(key) {
                None => "none",
                Some(Value::Text(_)) => "string",
                Some(Value::Hash(_)) => "hash",
                Some(Value::List) => "list",
            }),
            ("DEL", [key]) => Answer::Int(self.keys.remove(*key).is_some().into()),
            ("LPUSH", [key, _]) => {
                let (value, expires) = (Value::List, None);
                self.keys.insert(key.to_vec(), Key { value, expires });
                Answer::Int(1)
            }
            _ => return Err(format!("ERR unknown command '{name}' or wrong arguments")),
        })
    }

    /// The texts of a hash; none if there is no such key.
    pub fn hash(&self, key: &[u8]) -> Result<&[[Vec<u8>; 2]], String> {
        match self.value(key) {
            None => Ok(&[]),
            Some(Value::Hash(fields)) => Ok(fields),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn fields(&mut self, key: &[u8]) -> Result<&mut Vec<[Vec<u8>; 2]>, String> {
        let empty = || Key {
            value: Value::Hash(Vec::new()),
            expires: None,
        };
        match &mut self.keys.entry(key.to_vec()).or_insert_with(empty).value {
            Value::Hash(fields) => Ok(fields),
            _ => Err(WRONG_TYPE.into()),
        }
    }

    fn value(&self, key: &[u8]) -> Option<&Value> {
        self.keys.get(key).map(|key| &key.value)
    }

    /// So many milliseconds from now.
    fn later(&self, lasts: &[u8]) -> Result<u64, String> {
        let lasts = std::str::from_utf8(lasts)
            .ok()
            .and_then(|lasts| lasts.parse::<u64>().ok());
        let lasts = lasts.ok_or("ERR value is not an integer or out of range")?;
        Ok(self.now() / 1000 + lasts)
    }
}

impl Answer {
    /// As it is sent.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Answer::Nil => to.extend(b"$-1\r\n"),
            Answer::Int(number) => to.extend(format!(":{number}\r\n").bytes()),
            Answer::Status(text) => to.extend(format!("+{text}\r\n").bytes()),
            Answer::Error(text) => to.extend(format!("-{text}\r\n").bytes()),
            Answer::Bulk(text) => {
                to.extend(format!("${}\r\n", text.len()).bytes());
                to.extend(text);
                to.extend(b"\r\n");
            }
            Answer::Array(answers) => {
                to.extend(format!("*{}\r\n", answers.len()).bytes());
                answers.iter().for_each(|answer| answer.write(to));
            }
        }
    }
}

/// The commands that are complete, which are taken from the bytes.
pub fn commands(bytes: &mut Vec<u8>) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((command, after)) = command(rest) {
        commands.push(command);
        rest = after;
    }
    let taken = bytes.len() - rest.len();
    bytes.drain(..taken);
    commands
}

fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let (count, mut rest) = number(bytes, b'*')?;
    let mut command = Vec::new();
    for _ in 0..count {
        let (length, after) = number(rest, b'$')?;
        command.push(after.get(..length)?.to_vec());
        rest = after.get(length + 2..)?;
    }
    Some((command, rest))
}

/// The number in a line that begins with this letter, and what follows.
fn number(bytes: &[u8], letter: u8) -> Option<(usize, &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (first, digits) = bytes[..end].split_first()?;
    assert_eq!(*first, letter, "not a command: {}", String::from_utf8_lossy(bytes));
    let number = std::str::from_utf8(digits).unwrap().parse().unwrap();
    Some((number, &bytes[end + 2..]))
}
