//! Scripts, in the Lua that Redis has: what the program sends is what is executed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use mlua::{Error, ExternalError, Function, Lua, MultiValue, Table, Value};

use super::data::{Answer, Data};

pub struct Scripts {
    lua: Lua,
    data: Arc<Mutex<Data>>,
    /// By the hash of their texts.
    loaded: BTreeMap<String, (String, Function)>,
}

/// An error that a command in a script has raised.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl Scripts {
    /// Scripts that work on this data.
    pub fn new(data: &Arc<Mutex<Data>>) -> Scripts {
        let lua = Lua::new();
        add_functions(&lua, data).unwrap();
        Scripts {
            lua,
            data: Arc::clone(data),
            loaded: BTreeMap::new(),
        }
    }

    /// The server forgets them when it is restarted.
    pub fn forget(&mut self) {
        self.loaded.clear();
    }

    /// The hash of a script whose text ends so.
    pub fn hash_of(&self, ending: &str) -> Option<String> {
        let mut loaded = self.loaded.iter();
        loaded
            .find(|(_, (text, _))| text.ends_with(ending))
            .map(|(hash, _)| hash.clone())
    }

    pub fn text(&self, hash: &str) -> Option<&str> {
        self.loaded.get(hash).map(|(text, _)| text.as_str())
    }

    pub fn load(&mut self, text: &[u8]) -> Answer {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let hash = ::redis::Script::new(&text).get_hash().to_owned();
        let function = self.lua.load(&text).set_name("=user_script").into_function().unwrap();
        self.loaded.insert(hash.clone(), (text, function));
        Answer::Bulk(hash.into_bytes())
    }

    /// Calls a script; `rest`: the number of keys, the keys and the arguments.
    pub fn call(&self, hash: &[u8], rest: &[Vec<u8>]) -> Answer {
        let hash = String::from_utf8_lossy(hash).into_owned();
        let Some((_, function)) = self.loaded.get(&hash) else {
            return Answer::Error("NOSCRIPT No matching script. Please use EVAL.".into());
        };
        self.data.lock().unwrap().has_written = false;
        let answer = self.try_call(function, rest);
        answer.unwrap_or_else(|error| {
            let why = error
                .downcast_ref::<Raised>()
                .map_or_else(|| format!("ERR {error}"), |Raised(why)| why.clone());
            Answer::Error(format!("{why} script: {hash}, on @user_script."))
        })
    }

    fn try_call(&self, function: &Function, rest: &[Vec<u8>]) -> mlua::Result<Answer> {
        let (count, rest) = rest.split_first().unwrap();
        let count: usize = std::str::from_utf8(count).unwrap().parse().unwrap();
        let (keys, arguments) = rest.split_at(count);
        let list = |of: &[Vec<u8>]| {
            let texts = of
                .iter()
                .map(|text| self.lua.create_string(text))
                .collect::<mlua::Result<Vec<_>>>()?;
            self.lua.create_sequence_from(texts)
        };
        self.lua.globals().set("KEYS", list(keys)?)?;
        self.lua.globals().set("ARGV", list(arguments)?)?;
        answer(function.call(())?)
    }
}

fn add_functions(lua: &Lua, data: &Arc<Mutex<Data>>) -> mlua::Result<()> {
    let redis = lua.create_table()?;
    for raises in [true, false] {
        let data = Arc::clone(data);
        let call = lua.create_function(move |lua, arguments: MultiValue| {
            let arguments = arguments
                .into_iter()
                .map(|argument| text(&argument))
                .collect::<mlua::Result<Vec<_>>>()?;
            match data.lock().unwrap().call_in_script(&arguments) {
                Answer::Error(why) if raises => Err(Raised(why).into_lua_err()),
                answer => value(lua, answer),
            }
        })?;
        redis.set(if raises { "call" } else { "pcall" }, call)?;
    }
    let error_reply = lua.create_function(|lua, text: mlua::LuaString| {
        let reply = lua.create_table()?;
        reply.set("err", text)?;
        Ok(reply)
    })?;
    redis.set("error_reply", error_reply)?;
    let cjson = lua.create_table()?;
    let decode = lua.create_function(|lua, text: mlua::LuaString| {
        let json = serde_json::from_slice(&text.as_bytes()).map_err(ExternalError::into_lua_err)?;
        from_json(lua, json)
    })?;
    cjson.set("decode", decode)?;
    lua.globals().set("redis", redis)?;
    lua.globals().set("cjson", cjson)
}

/// An argument of a command.
fn text(argument: &Value) -> mlua::Result<Vec<u8>> {
    match argument {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into_bytes()),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            Ok(format!("{number:.0}").into_bytes())
        }
        Value::Number(number) => Ok(number.to_string().into_bytes()),
        _ => Err(Error::runtime(
            "Lua redis lib command arguments must be strings or integers",
        )),
    }
}

/// An answer, as scripts see it.
fn value(lua: &Lua, answer: Answer) -> mlua::Result<Value> {
    let named = |name: &str, text: &str| {
        let table = lua.create_table()?;
        table.set(name, text)?;
        Ok(Value::Table(table))
    };
    match answer {
        Answer::Nil => Ok(Value::Boolean(false)),
        Answer::Int(number) => Ok(Value::Number(number as f64)),
        Answer::Bulk(text) => Ok(Value::String(lua.create_string(text)?)),
        Answer::Status(text) => named("ok", text),
        Answer::Error(why) => named("err", &why),
        Answer::Array(answers) => {
            let values = answers.into_iter().map(|answer| value(lua, answer));
            Ok(Value::Table(
                lua.create_sequence_from(values.collect::<mlua::Result<Vec<_>>>()?)?,
            ))
        }
    }
}

/// What a script returns, as it is answered.
fn answer(value: Value) -> mlua::Result<Answer> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Answer::Nil,
        Value::Boolean(true) => Answer::Int(1),
        Value::Integer(number) => Answer::Int(number),
        Value::Number(number) => Answer::Int(number as i64),
        Value::String(text) => Answer::Bulk(text.as_bytes().to_vec()),
        Value::Table(table) => array(&table)?,
        other => return Err(Error::runtime(format!("a script returns {other:?}"))),
    })
}

fn array(table: &Table) -> mlua::Result<Answer> {
    if let Some(why) = table.get::<Option<String>>("err")? {
        return Ok(Answer::Error(why));
    }
    let mut answers = Vec::new();
    for index in 1.. {
        match table.get::<Value>(index)? {
            Value::Nil => break,
            value => answers.push(answer(value)?),
        }
    }
    Ok(Answer::Array(answers))
}

fn from_json(lua: &Lua, json: serde_json::Value) -> mlua::Result<Value> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::NULL,
        Json::Bool(is) => Value::Boolean(is),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(values) => {
            let values = values.into_iter().map(|value| from_json(lua, value));
            Value::Table(lua.create_sequence_from(values.collect::<mlua::Result<Vec<_>>>()?)?)
        }
        Json::Object(members) => {
            let table = lua.create_table()?;
            for (name, member) in members {
                table.set(name, from_json(lua, member)?)?;
            }
            Value::Table(table)
        }
    })
}
