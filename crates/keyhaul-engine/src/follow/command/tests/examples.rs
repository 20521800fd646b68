//! One example or more of each command that writes. In order: each finds the values that it needs. Those that a server does not know,
//! it refuses.
//!
//! Left out is `VADD key ... CAS SETATTR` where the key is there: Redis 8.2.3 does not count that attribute, and its DUMP and its RDB files lack all
//! attributes of the key until another is set (seen).

use keyhaul_testkit::redis::{Cmd, cmd};

/// `_` in a word is a space, `^` a new line.
pub(super) const EXAMPLES: &str = "
SET k v
SET k v EX 100
SET k v PX 100000
SET k v EXAT 4000000000
SET k v PXAT 4000000000000
SET k v KEEPTTL
SET k v XX GET
SET k v NX GET
SET k w IFEQ v
SET k PX XX EX 100
DEL k
SET k v NX
SET k v NX EX 100
DEL k
SET k v NX EX 100
SETEX k 100 v
PSETEX k 100000 v
EXPIRE k 100
EXPIRE k 200 GT
EXPIRE k 300 LT
PEXPIRE k 300000 XX
EXPIREAT k 4000000000
PEXPIREAT k 4000000000001
EXPIREAT k 4000000001 GT
PERSIST k
GETEX k EX 100
GETEX k PX 100000
GETEX k EXAT 4000000000
GETEX k PXAT 4000000000000
GETEX k PERSIST
GETEX k EXAT 1
SET k v
EXPIRE k -1
SETNX k2 v
GETSET k2 x
GETDEL k2
MSET a{k} 1 b{k} 2
MSETNX c{k} 1 d{k} 2
MSETNX c{k} 1 e{k} 2
MSETEX 2 a{k} 1 b{k} 2 EX 100
MSETEX 2 a{k} 1 b{k} 2 NX
MSETEX 2 a{k} 1 b{k} 2 PXAT 4000000000000
MSETEX 2 a{k} 1 b{k} 3 KEEPTTL
MSETEX 2 a{k} 1 x{k} 3
DELIFEQ a{k} 1
SET e v
DELEX e IFEQ v
SET e v
APPEND e x
SETRANGE e 1 zz
SETBIT e 1 0
SETBIT e 7 1
SETBIT e 7 0
BITFIELD e SET u8 0 1 INCRBY u8 8 1
BITOP AND e2 e e
BITOP NOT e2 e
INCR n
INCRBY n 2
INCRBYFLOAT n 1.5
DECR m
DECRBY m 1
PFADD pf a b c
PFADD pf2 a x
PFCOUNT pf
PFCOUNT pf pf2
PFMERGE pf3 pf pf2
PFMERGE pf3
PFDEBUG GETREG pf
EXPIREAT e 4000000000
COPY e e3
COPY e e3 DB 1 REPLACE
MOVE e3 2
RENAME e e4
RENAMENX e4 e
RENAMENX e k
PERSIST e
RPUSH l a b c d e f g h i j k l m n o p q r
LPUSH l 1
LPUSHX l 2
RPUSHX l 2
LINSERT l BEFORE a x
LSET l 0 z
LREM l 1 a
LTRIM l 0 50
LTRIM l 0 15
LPOP l
LPOP l 2
RPOP l
RPOP l 2
RPOPLPUSH l l2
LMOVE l l2 LEFT RIGHT
LMOVE l l LEFT RIGHT
BLMOVE l l2 LEFT RIGHT 1
BRPOPLPUSH l l2 1
BLPOP l 1
BRPOP nol l 1
LMPOP 2 nol l LEFT COUNT 1
BLMPOP 1 2 nol l LEFT COUNT 1
SORT l ALPHA STORE sorted
SORT l BY w_* LIMIT 0 2 GET # ALPHA STORE sorted
SADD s a b c d e f
SADD t a b
SREM s a
SMOVE s t b
SMOVE s t c
SPOP s
SPOP s 2
SDIFFSTORE sd s t
SINTERSTORE si t t
SUNIONSTORE su s t
SPOP t 100
HSET h a 1 b 2 c 3 d 4
HMSET h a 1
HSETNX h z 1
HINCRBY h a 1
HINCRBYFLOAT h a 1.5
HDEL h z
HEXPIRE h 100 FIELDS 1 a
HEXPIRE h 100 NX FIELDS 2 a b
HPEXPIRE h 100000 FIELDS 1 a
HEXPIREAT h 4000000000 FIELDS 1 a
HPEXPIREAT h 4000000000000 FIELDS 2 a b
HPERSIST h FIELDS 2 a nope
HPERSIST h FIELDS 1 nope
HEXPIRE h 0 FIELDS 1 c
HSETEX h EX 100 FIELDS 2 q 1 r 2
HSETEX h EXAT 4000000000 FIELDS 1 r PX
HSETEX h FNX PXAT 4000000000000 FIELDS 1 y 1
HSETEX h FNX PX 100000 FIELDS 1 y 1
HSETEX h FXX KEEPTTL FIELDS 1 y 2
HSETEX h FIELDS 1 y 2
HGETEX h EX 100 FIELDS 1 a
HGETEX h PXAT 4000000000000 FIELDS 2 a nope
HGETEX h PERSIST FIELDS 1 a
HGETEX h EXAT 1 FIELDS 1 a
HGETDEL h FIELDS 1 b
ZADD z 1 a 2 b 3 c 4 d 5 e
ZADD z GT CH 1 g 1 h 1 i 1 j 1 k 1 l 1 m 1 n
ZADD z 1 g 1 h 1 i 1 j 1 k 1 l 1 m 1 n
ZADD z NX INCR 1 f
ZINCRBY z 1 a
ZREM z a
ZPOPMIN z
ZPOPMAX z 1
BZPOPMIN z 1
BZPOPMAX noz z 1
ZMPOP 1 z MIN
BZMPOP 1 1 z MAX
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 99 100
ZREMRANGEBYSCORE z 3 3
ZREMRANGEBYLEX z [j [k
ZADD z2 1 a 2 b
ZUNIONSTORE zu 2 z z2 WEIGHTS 1 2
ZINTERSTORE zi 2 z2 z2
ZDIFFSTORE zd 2 z2 z
ZRANGESTORE zr z2 0 -1
GEOADD g 1 1 a 2 2 b
GEORADIUS g 1 1 500 km STORE gs
GEORADIUS g 1 1 500 km COUNT 1 STOREDIST gt
GEORADIUSBYMEMBER g a 500 km STOREDIST gd
GEOSEARCHSTORE ge g FROMLONLAT 1 1 BYRADIUS 500 km
XADD x 1-1 f v
XADD x 1-* f v
XADD x * f v
XADD x MAXLEN ~ 1000 * f v
XADD x MAXLEN 10 * f v
XADD x MINID ~ 1 LIMIT 10 * f v
XADD x NOMKSTREAM KEEPREF MAXLEN 10 * f v
XTRIM x MAXLEN ~ 1
XTRIM x MAXLEN 3
XTRIM x MINID = 5
XADD x 9999999999999-1 f v
XADD x 9999999999999-2 f v
XADD x 9999999999999-3 f v
XADD x 9999999999999-4 f v
XADD x 9999999999999-5 f v
XDEL x 9999999999999-5
XGROUP CREATE x gr 0
XGROUP CREATE newx gr $ MKSTREAM
XGROUP CREATECONSUMER x gr me
XGROUP SETID x gr 0
XREADGROUP GROUP gr me COUNT 2 STREAMS x >
XREADGROUP GROUP gr me NOACK COUNT 1 STREAMS x >
XREADGROUP GROUP gr you COUNT 3 BLOCK 1 STREAMS x >
XACK x gr 9999999999999-1
XCLAIM x gr you2 0 9999999999999-2 9999999999999-3 9999999999999-4
XAUTOCLAIM x gr me 0 0
XACKDEL x gr DELREF IDS 1 9999999999999-2
XDELEX x KEEPREF IDS 1 9999999999999-3
XSETID x 99999999999999-9
XGROUP DELCONSUMER x gr me
XGROUP DESTROY x gr
XGROUP DESTROY x nogr
VADD vs VALUES 3 1 2 3 el
VADD vs VALUES 3 1 2 4 el2 SETATTR {\"a\":1}
VADD vs VALUES 3 1 2 5 el3 CAS
VSETATTR vs el {\"b\":2}
VREM vs el
PUBLISH ch msg
SPUBLISH ch msg
EVAL redis.call('set',KEYS[1],'1');redis.call('incr',KEYS[1]) 1 ev
EVAL return_1 0
EVAL redis.call('set',KEYS[1],'1') 1 ev
SCRIPT LOAD return_1
SCRIPT FLUSH
FUNCTION LOAD #!lua_name=lib^redis.register_function('f',function(k,a)_redis.call('set',k[1],a[1])_redis.call('expire',k[1],100)_end)
FCALL f 1 fk 7
FUNCTION DELETE lib
FUNCTION FLUSH
MULTI
SET k 1
EXPIRE k 100
INCR k
SELECT 4
RPUSH l4 a b
LPOP l4
EXEC
SELECT 0
SWAPDB 0 4
SELECT 4
UNLINK a{k} b{k} x{k}
TOUCH k
SELECT 3
SET k 3
FLUSHDB
SELECT 0
";

/// Further forms, which servers take and do not send.
pub(super) const FURTHER: &str = "
EVALSHA abc 2 a b c
RESTORE k 0 x REPLACE
RESTORE-ASKING k 0 x
MIGRATE h 1 k 0 1
MIGRATE h 1 __ 0 1 KEYS a b c
XREADGROUP GROUP g c BLOCK 1 STREAMS a b > >
SORT k STORE a STORE b
SORT k GET STORE STORE b
BZPOPMIN a b c 1
BLPOP a b c 1
DEL a b c
UNLINK a
";

pub(super) fn parse(line: &str) -> Cmd {
    let mut words = line.split(' ').map(|word| match word {
        "__" => String::new(),
        word if word.contains('(') || word.starts_with("return") => {
            word.replace('_', " ").replace('^', "\n")
        }
        word => word.to_owned(),
    });
    let mut command = cmd(&words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

pub(super) fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty())
}
