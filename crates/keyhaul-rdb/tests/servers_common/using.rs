//! Commands that go over every part of a value, and change it: whatever is wrong with it shows.

use keyhaul_rdb::{Element, ElementReader, Form, KeyType};
use keyhaul_testkit::redis::{Cmd, cmd};

/// How many names of one value commands are sent for.
const NAMES_MAX: usize = 3;

/// Names that stand in a value.
#[derive(Default)]
struct Names {
    /// Items, members, fields, ids of entries.
    elements: Vec<Vec<u8>>,
    groups: Vec<Vec<u8>>,
    /// With the index of their group.
    consumers: Vec<(usize, Vec<u8>)>,
    pending: Vec<(usize, Vec<u8>)>,
}

/// Reads of all of the value, writes, and its end. Commands that a server does not know it refuses.
pub(crate) fn commands_for(form: Form, value: &[u8], key: &[u8]) -> Vec<Cmd> {
    let names = names(form, value);
    let mut script = Script {
        key,
        commands: Vec::new(),
    };
    script.add("TYPE", &[]);
    script.object();
    match form.key_type() {
        KeyType::String => string(&mut script),
        KeyType::List => list(&mut script, &names),
        KeyType::Set => set(&mut script, &names),
        KeyType::SortedSet => zset(&mut script, &names),
        KeyType::Hash => hash(&mut script, &names),
        KeyType::Stream => stream(&mut script, &names),
        _ => {}
    }
    script.object();
    script.add("DEL", &[]);
    script.commands
}

fn names(form: Form, value: &[u8]) -> Names {
    let mut names = Names::default();
    let Ok(mut reader) = ElementReader::new(form) else {
        return names;
    };
    let outcome = reader.push(value, usize::MAX, &mut |element| {
        let Names {
            elements,
            groups,
            consumers,
            pending,
        } = &mut names;
        let name = match element {
            Element::Item(name) | Element::Member(name) => name.to_vec(),
            Element::Scored { member, .. } => member.to_vec(),
            Element::Field { field, .. } => field.to_vec(),
            Element::Entry { id, .. } => id.to_string().into_bytes(),
            Element::Group { name, .. } => return groups.push(name.to_vec()),
            Element::Consumer { name, .. } => {
                return consumers.push((groups.len() - 1, name.to_vec()));
            }
            Element::Pending { id, .. } => {
                return pending.push((groups.len() - 1, id.to_string().into_bytes()));
            }
            _ => return,
        };
        // The first ones and the last.
        match elements.len() {
            NAMES_MAX.. => elements[NAMES_MAX - 1] = name,
            _ => elements.push(name),
        }
    });
    outcome.expect("the value was checked");
    names
}

struct Script<'a> {
    key: &'a [u8],
    commands: Vec<Cmd>,
}

impl Script<'_> {
    /// A command whose first argument is the key.
    fn add(&mut self, name: &str, args: &[&[u8]]) {
        let mut command = cmd(name);
        command.arg(self.key).arg(args);
        self.commands.push(command);
    }

    /// The same, as words; `KEY` stands for the key, names with spaces come behind.
    fn words(&mut self, text: &str, args: &[&[u8]]) {
        let mut words = text.split(' ');
        let mut command = cmd(words.next().unwrap_or_default());
        for word in words {
            match word {
                "KEY" => command.arg(self.key),
                word => command.arg(word),
            };
        }
        command.arg(args);
        self.commands.push(command);
    }

    fn object(&mut self) {
        self.words("OBJECT ENCODING KEY", &[]);
        self.words("MEMORY USAGE KEY SAMPLES 0", &[]);
        self.add("DUMP", &[]);
        self.words("COPY KEY a-copy REPLACE", &[]);
        self.words("DEBUG DIGEST-VALUE KEY a-copy", &[]);
    }
}

fn string(script: &mut Script<'_>) {
    for text in [
        "GET KEY",
        "STRLEN KEY",
        "GETRANGE KEY 1 -2",
        "BITCOUNT KEY",
        "INCR KEY",
        "APPEND KEY x",
        "SETRANGE KEY 1 y",
        "GETBIT KEY 7",
    ] {
        script.words(text, &[]);
    }
}

fn list(script: &mut Script<'_>, names: &Names) {
    for text in [
        "LLEN KEY",
        "LRANGE KEY 0 -1",
        "LRANGE KEY -2 -1",
        "LINDEX KEY 0",
        "LINDEX KEY -1",
        "LINDEX KEY 3",
        "LPOS KEY nowhere",
        "LSET KEY 0 new",
        "LSET KEY -1 77",
        "LPUSH KEY 1",
        "RPUSH KEY 2",
    ] {
        script.words(text, &[]);
    }
    script.add("RPUSH", &[&[b'l'; 9000]]);
    for name in &names.elements {
        script.add("LINSERT", &[b"BEFORE", name, b"before"]);
        script.add("LINSERT", &[b"AFTER", name, &[b'a'; 5000]]);
        script.add("LREM", &[b"-1", name]);
        script.add("LREM", &[b"0", name]);
    }
    script.object();
    for text in [
        "LTRIM KEY 1 -2",
        "LRANGE KEY 0 -1",
        "SORT KEY ALPHA",
        "RPOPLPUSH KEY KEY",
        "LPOP KEY",
        "RPOP KEY",
        "LRANGE KEY 0 -1",
    ] {
        script.words(text, &[]);
    }
    // To its end, element by element.
    for _ in 0..8 {
        script.words("RPOP KEY", &[]);
        script.words("LPOP KEY", &[]);
    }
}

fn set(script: &mut Script<'_>, names: &Names) {
    for text in [
        "SCARD KEY",
        "SMEMBERS KEY",
        "SSCAN KEY 0 COUNT 1000",
        "SRANDMEMBER KEY",
        "SRANDMEMBER KEY 3",
        "SRANDMEMBER KEY -9",
        "SISMEMBER KEY 5",
        "SADD KEY 5",
        "SADD KEY -70000",
        "SREM KEY 5",
        "SINTER KEY a-copy",
        "SUNION KEY a-copy",
        "SDIFF a-copy KEY",
    ] {
        script.words(text, &[]);
    }
    for name in &names.elements {
        script.add("SISMEMBER", &[name]);
        script.add("SREM", &[name]);
        script.add("SISMEMBER", &[name]);
        script.add("SADD", &[name]);
    }
    script.words("SADD KEY 99999999999", &[]);
    script.words("SADD KEY text", &[]);
    script.words("SPOP KEY", &[]);
    script.add("SADD", &[&[b's'; 100]]);
    for text in [
        "SMEMBERS KEY",
        "SPOP KEY",
        "SPOP KEY 2",
        "SPOP KEY 9",
        "SMEMBERS KEY",
        "SRANDMEMBER KEY -2",
    ] {
        script.words(text, &[]);
    }
}

fn zset(script: &mut Script<'_>, names: &Names) {
    for text in [
        "ZCARD KEY",
        "ZRANGE KEY 0 -1 WITHSCORES",
        "ZREVRANGE KEY 0 -1",
        "ZRANGEBYSCORE KEY -inf +inf",
        "ZREVRANGEBYSCORE KEY 5 -5",
        "ZRANGEBYLEX KEY - +",
        "ZREVRANGEBYLEX KEY + -",
        "ZCOUNT KEY -inf 3",
        "ZLEXCOUNT KEY - [m",
        "ZSCAN KEY 0 COUNT 1000",
        "ZRANDMEMBER KEY",
        "ZRANDMEMBER KEY -7 WITHSCORES",
        "ZADD KEY 1.25 new",
        "ZADD KEY -inf least",
        "ZINCRBY KEY 3 new",
        "ZUNIONSTORE a-union 2 KEY a-copy",
        "ZINTERSTORE an-intersection 2 KEY a-copy",
        "DEL a-union an-intersection",
    ] {
        script.words(text, &[]);
    }
    for name in &names.elements {
        script.add("ZSCORE", &[name]);
        script.add("ZRANK", &[name]);
        script.add("ZREVRANK", &[name]);
        script.add("ZINCRBY", &[b"1.5", name]);
        script.add("ZADD", &[b"0", name]);
        script.add("ZREM", &[name]);
        script.add("ZRANK", &[name]);
        script.add("ZADD", &[b"7e300", name]);
    }
    script.words("ZPOPMIN KEY", &[]);
    script.words("ZPOPMAX KEY", &[]);
    script.add("ZADD", &[b"2", &[b'z'; 100]]);
    for text in [
        "ZRANGE KEY 0 -1 WITHSCORES",
        "ZRANDMEMBER KEY -3",
        "ZREMRANGEBYRANK KEY 1 2",
        "ZREMRANGEBYSCORE KEY 0 2",
        "ZREMRANGEBYLEX KEY - [c",
        "ZPOPMIN KEY 3",
        "ZPOPMAX KEY 50",
    ] {
        script.words(text, &[]);
    }
}

fn hash(script: &mut Script<'_>, names: &Names) {
    for text in [
        "HLEN KEY",
        "HGETALL KEY",
        "HKEYS KEY",
        "HVALS KEY",
        "HSCAN KEY 0 COUNT 1000",
        "HRANDFIELD KEY",
        "HRANDFIELD KEY -7 WITHVALUES",
        "HRANDFIELD KEY 3",
        "HSET KEY new 1",
        "HINCRBY KEY new 7",
        "HEXPIRE KEY 1000 FIELDS 1 new",
        "HPERSIST KEY FIELDS 1 new",
    ] {
        script.words(text, &[]);
    }
    for name in &names.elements {
        script.add("HGET", &[name]);
        script.add("HSTRLEN", &[name]);
        script.add("HPEXPIRETIME", &[b"FIELDS", b"1", name]);
        script.add("HPEXPIRE", &[b"100000", b"FIELDS", b"1", name]);
        script.add("HSET", &[name, b"again"]);
        script.add("HPERSIST", &[b"FIELDS", b"1", name]);
        script.add("HDEL", &[name]);
        script.add("HSET", &[name, b"3"]);
        script.add("HPEXPIREAT", &[b"4102444800123", b"FIELDS", b"1", name]);
    }
    script.object();
    script.add("HSET", &[b"long", &[b'h'; 100]]);
    for text in [
        "HGETALL KEY",
        "HRANDFIELD KEY -4",
        "HPEXPIRE KEY 0 FIELDS 1 long",
        "HGETALL KEY",
    ] {
        script.words(text, &[]);
    }
    for name in &names.elements {
        script.add("HGETDEL", &[b"FIELDS", b"1", name]);
        script.add("HDEL", &[name]);
    }
    script.words("HLEN KEY", &[]);
}

fn stream(script: &mut Script<'_>, names: &Names) {
    for text in [
        "XLEN KEY",
        "XRANGE KEY - +",
        "XREVRANGE KEY + -",
        "XRANGE KEY 5 1700000000000-3",
        "XINFO STREAM KEY",
        "XINFO STREAM KEY FULL COUNT 0",
        "XINFO GROUPS KEY",
        "XREAD COUNT 100 STREAMS KEY 0",
    ] {
        script.words(text, &[]);
    }
    for (index, group) in names.groups.iter().enumerate() {
        let of_group = |all: &[(usize, Vec<u8>)]| -> Vec<Vec<u8>> {
            let own = all.iter().filter(|(of, _)| *of == index);
            own.map(|(_, name)| name.clone()).take(NAMES_MAX).collect()
        };
        group_commands(
            script,
            group,
            &of_group(&names.consumers),
            &of_group(&names.pending),
        );
    }
    script.words("XADD KEY * field value", &[]);
    script.words("XADD KEY MAXLEN ~ 5 * other 12 third x", &[]);
    for id in &names.elements {
        script.add("XRANGE", &[id, id]);
        script.add("XDEL", &[id]);
        script.add("XRANGE", &[id, b"+"]);
    }
    script.words("XGROUP CREATE KEY late 0", &[]);
    script.words("XREADGROUP GROUP late me COUNT 3 STREAMS KEY >", &[]);
    script.words("XINFO STREAM KEY FULL", &[]);
    script.object();
    for text in [
        "XTRIM KEY MAXLEN 3",
        "XTRIM KEY MINID 1600000000008",
        "XSETID KEY 18446744073709551615-18446744073709551615",
        "XADD KEY * field value",
        "XRANGE KEY - +",
        "XREVRANGE KEY + -",
        "XTRIM KEY MAXLEN 0",
        "XINFO STREAM KEY FULL",
        "XGROUP DESTROY KEY late",
    ] {
        script.words(text, &[]);
    }
    for group in &names.groups {
        script.words("XGROUP DESTROY KEY", &[group]);
    }
}

fn group_commands(
    script: &mut Script<'_>,
    group: &[u8],
    consumers: &[Vec<u8>],
    pending: &[Vec<u8>],
) {
    script.words("XINFO CONSUMERS KEY", &[group]);
    script.words("XPENDING KEY", &[group]);
    script.words("XPENDING KEY", &[group, b"-", b"+", b"100"]);
    for consumer in consumers {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer);
        read.arg("STREAMS").arg(script.key).arg("0");
        script.commands.push(read);
    }
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg(group).arg("new reader");
    read.arg("COUNT").arg(2).arg("STREAMS");
    read.arg(script.key).arg(">");
    script.commands.push(read);
    for id in pending {
        script.add("XCLAIM", &[group, b"thief", b"0", id]);
        script.add("XCLAIM", &[group, b"forced", b"0", id, b"FORCE"]);
        script.add("XACK", &[group, id]);
    }
    script.add(
        "XAUTOCLAIM",
        &[group, b"collector", b"0", b"0", b"COUNT", b"2"],
    );
    script.add("XAUTOCLAIM", &[group, b"collector", b"0", b"0"]);
    for consumer in consumers {
        script.words("XGROUP DELCONSUMER KEY", &[group, consumer]);
    }
    script.words("XGROUP SETID KEY", &[group, b"0"]);
    script.words("XPENDING KEY", &[group]);
}
