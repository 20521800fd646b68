//! Which commands a server has that write, as it says itself.

use std::collections::BTreeSet;

use redis::{Value, cmd};

use super::templates::{NOT_CALLED, TEMPLATES};
use crate::Endpoint;

/// The commands of a server; names in lower case, subcommands as `xgroup|create`.
#[derive(Debug, Clone, Default)]
pub struct WriteCommands {
    /// All of them, also those that do not write.
    pub(super) all: BTreeSet<String>,
    /// Those with the flag `write`. A container whose subcommands are told is not among them.
    pub writing: BTreeSet<String>,
}

/// Asks a server for its commands.
///
/// # Panics
/// If it does not answer.
pub fn write_commands(endpoint: &Endpoint) -> WriteCommands {
    let rows: Vec<Value> = cmd("COMMAND")
        .query(&mut endpoint.connection(0))
        .expect("COMMAND is answered");
    let mut commands = WriteCommands::default();
    rows.iter().for_each(|row| commands.add(row));
    commands
}

impl WriteCommands {
    /// Writing commands that the generator cannot call and that are not named in [`NOT_CALLED`].
    pub fn unknown(&self) -> BTreeSet<String> {
        let known = |name: &&String| {
            let name = name.as_str();
            let inside = |called: &str| called.split('|').next() == Some(name);
            NOT_CALLED.contains(&name)
                || TEMPLATES
                    .iter()
                    .any(|template| template.0 == name || inside(template.0))
        };
        let unknown = self.writing.iter().filter(|name| !known(name));
        unknown.cloned().collect()
    }

    /// True if the server has the command; of a subcommand on a server that does not tell subcommands, if it has
    /// the container.
    pub(super) fn has(&self, name: &str) -> bool {
        let container = name.split('|').next().unwrap_or(name);
        let tells = |container: &str| {
            let prefix = format!("{container}|");
            self.all.iter().any(|name| name.starts_with(&prefix))
        };
        self.all.contains(name) || (self.all.contains(container) && !tells(container))
    }

    /// A row: name, arity, flags, ..., and from 7.0 on in tenth place the rows of its subcommands.
    fn add(&mut self, row: &Value) {
        let Value::Array(columns) = row else {
            panic!("COMMAND answers rows, not {row:?}");
        };
        let name = text(&columns[0]);
        let subcommands = match columns.get(9) {
            Some(Value::Array(rows)) => rows.as_slice(),
            _ => &[],
        };
        subcommands.iter().for_each(|row| self.add(row));
        let Value::Array(flags) = &columns[2] else {
            panic!("flags are a list");
        };
        if subcommands.is_empty() && flags.iter().any(|flag| text(flag) == "write") {
            self.writing.insert(name.clone());
        }
        self.all.insert(name);
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::SimpleString(text) => text.to_lowercase(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).to_lowercase(),
        other => panic!("a name, not {other:?}"),
    }
}
