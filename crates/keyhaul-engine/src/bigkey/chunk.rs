//! A chunk: commands for the staging key, encoded but for its name, which changes when a link breaks.

use bytes::{Bytes, BytesMut};
use keyhaul_resp::encode;

/// A command of one word or two, before the key.
pub(crate) type Words = &'static [&'static [u8]];

/// Commands that are applied together.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Their arguments after the key, one after the other, as bulk strings.
    args: BytesMut,
    commands: Vec<Command>,
    /// Elements of the value once this chunk is applied, all of those before included.
    pub elements_after: u64,
    /// The id of a stream's last entry then.
    pub last_id: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Command {
    words: Words,
    arg_count: usize,
    /// Where its arguments end.
    end: usize,
}

impl Chunk {
    /// The buffer that takes arguments of the command that is ended next.
    pub(crate) fn args(&mut self) -> &mut BytesMut {
        &mut self.args
    }

    /// Ends a command: all arguments since the last one are its own.
    pub(crate) fn end_command(&mut self, words: Words, arg_count: usize) {
        self.commands.push(Command {
            words,
            arg_count,
            end: self.args.len(),
        });
    }

    /// Appends a whole command.
    pub(crate) fn command(&mut self, words: Words, args: &[&[u8]]) {
        args.iter()
            .for_each(|arg| encode::bulk(&mut self.args, arg));
        self.end_command(words, args.len());
    }

    /// Appends all commands of another chunk.
    pub(crate) fn append(&mut self, other: &mut Self) {
        let begin = self.args.len();
        self.args.extend_from_slice(&other.args);
        let moved = other.commands.drain(..).map(|command| Command {
            end: begin + command.end,
            ..command
        });
        self.commands.extend(moved);
        self.last_id = other.last_id.take().or(self.last_id.take());
    }

    /// Length of all arguments, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.args.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.args.is_empty()
    }

    /// Makes it ready to be sent, more than once if need be.
    pub(crate) fn seal(self) -> Sealed {
        Sealed {
            args: self.args.freeze(),
            commands: self.commands,
            elements_after: self.elements_after,
            last_id: self.last_id,
        }
    }
}

/// A chunk that nothing is added to any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    args: Bytes,
    commands: Vec<Command>,
    pub elements_after: u64,
    pub last_id: Option<String>,
}

impl Sealed {
    pub(crate) fn command_count(&self) -> usize {
        self.commands.len()
    }

    /// Length of all arguments, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.args.len()
    }

    /// Each command: how it begins, and the arguments after the key.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (Head, Bytes)> {
        let mut begin = 0;
        self.commands.iter().map(move |command| {
            let args = self.args.slice(begin..command.end);
            begin = command.end;
            (Head(command.words, command.arg_count), args)
        })
    }
}

/// What precedes the arguments of a command.
pub(crate) struct Head(Words, usize);

impl Head {
    /// Encodes it, for the staging key of this name.
    pub(crate) fn encode(&self, staging: &[u8], output: &mut BytesMut) {
        let Self(words, arg_count) = self;
        encode::array_header(output, words.len() + 1 + arg_count);
        words.iter().for_each(|word| encode::bulk(output, word));
        encode::bulk(output, staging);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_get_the_name_when_they_are_sent() {
        let mut chunk = Chunk::default();
        encode::bulk(chunk.args(), b"a");
        encode::bulk(chunk.args(), b"b");
        chunk.end_command(&[b"SADD"], 2);
        chunk.command(&[b"XGROUP", b"CREATE"], &[b"g", b"0"]);
        let sealed = chunk.seal();
        let sent = |name: &'static [u8]| {
            let mut output = BytesMut::new();
            for (head, args) in sealed.commands() {
                head.encode(name, &mut output);
                output.extend_from_slice(&args);
            }
            String::from_utf8(output.to_vec())
                .unwrap()
                .replace("\r\n", " ")
        };
        assert_eq!(
            sent(b"n1"),
            "*4 $4 SADD $2 n1 $1 a $1 b *5 $6 XGROUP $6 CREATE $2 n1 $1 g $1 0 "
        );
        assert!(sent(b"other").contains("$4 SADD $5 other"));
    }
}
