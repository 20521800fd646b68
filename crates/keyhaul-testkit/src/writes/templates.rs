//! The calls: for each command the forms in which it is sent.
//!
//! A form is words, several commands of a sequence between ` ; `. What begins with `$` is filled in by `maker.rs`:
//! `$str`, `$lst`, ... are keys of the pool of that type, `$1` is the first key of the form again. Keys of one form
//! share a hash tag in a cluster. `[7.0]` in front: only from Redis 7.0 on, and Valkey; `[R8.2]`, `[V9.0]`: only
//! this family, from this version on; `[alone]`: only outside of clusters.

/// Writing commands that are not called, and why not.
///
/// `migrate` and `restore-asking` are what moves of slots are made of (see [`crate::Cluster::move_slots`]),
/// `cluster|flushslot` is part of them.
pub const NOT_CALLED: &[&str] = &["migrate", "restore-asking", "cluster|flushslot"];

/// Commands that empty or swap dbs: called only where [`super::WriteOptions::flushes`] says so, and rarely.
pub const FLUSHES: &[&str] = &["flushall", "flushdb", "swapdb"];

/// Commands that give hash fields a time to live: to leave out where the target knows none.
pub const FIELD_TTL_COMMANDS: &[&str] = &[
    "hexpire",
    "hexpireat",
    "hpexpire",
    "hpexpireat",
    "hsetex",
    "hgetex",
];

/// Called once where others are called so many times.
pub(super) const RARE_DIVISOR: u32 = 20;
/// What is called rarely, beside [`FLUSHES`].
pub(super) const RARE: &[&str] = &[
    "function|delete",
    "function|flush",
    "function|load",
    "function|restore",
    "move",
    "del",
    "unlink",
    "pfdebug",
];

/// Command, then its forms.
pub(super) const TEMPLATES: &[(&str, &[&str])] = &[
    // Strings.
    (
        "set",
        &[
            "SET $str $val",
            "SET $str $val EX $sec",
            "SET $str $val PX $ms",
            "SET $str $val NX",
            "SET $str $val XX",
            "SET $str $val KEEPTTL",
            "SET $num $int",
            "SET $flt $float",
            "SET $bit $val",
            "[6.2] SET $str $val GET",
            "[6.2] SET $str $val EXAT $at",
            "[6.2] SET $str $val PXAT $atms",
            "[7.0] SET $str $val NX GET",
            "[V8.1] SET $str $val IFEQ $val",
        ],
    ),
    ("append", &["APPEND $str $val", "APPEND $bit $val"]),
    ("setex", &["SETEX $str $sec $val"]),
    ("psetex", &["PSETEX $str $ms $val"]),
    ("setnx", &["SETNX $str $val"]),
    ("getset", &["GETSET $str $val"]),
    ("getdel", &["GETDEL $str"]),
    (
        "getex",
        &[
            "GETEX $str EX $sec",
            "GETEX $str PX $ms",
            "GETEX $str EXAT $at",
            "GETEX $str PXAT $atms",
            "GETEX $str PERSIST",
        ],
    ),
    ("delifeq", &["SET $str x ; DELIFEQ $1 x"]),
    (
        "mset",
        &[
            "MSET $str $val $str $val",
            "MSET $num $int $str $val $flt $float",
        ],
    ),
    ("msetnx", &["MSETNX $str $val $str $val"]),
    (
        "msetex",
        &[
            "MSETEX 2 $str $val $str $val EX $sec",
            "MSETEX 2 $str $val $str $val KEEPTTL",
            "MSETEX 1 $str $val NX PXAT $atms",
        ],
    ),
    (
        "setrange",
        &["SETRANGE $str $small $val", "SETRANGE $bit $small $val"],
    ),
    ("incr", &["INCR $num"]),
    ("incrby", &["INCRBY $num $small"]),
    ("decr", &["DECR $num"]),
    ("decrby", &["DECRBY $num $small"]),
    ("incrbyfloat", &["INCRBYFLOAT $flt $float"]),
    ("setbit", &["SETBIT $bit $small $01"]),
    (
        "bitop",
        &[
            "BITOP AND $bit $bit $bit",
            "BITOP OR $bit $bit $bit $str",
            "BITOP XOR $bit $bit $bit",
            "BITOP NOT $bit $bit",
            "[R8.2] BITOP DIFF $bit $bit $bit",
            "[R8.2] BITOP ONE $bit $bit $bit",
        ],
    ),
    (
        "bitfield",
        &[
            "BITFIELD $bit SET u8 $small $byte INCRBY i16 $small $small",
            "BITFIELD $bit OVERFLOW SAT INCRBY u4 $small 3",
        ],
    ),
    (
        "pfadd",
        &["PFADD $hll $member $member $member", "PFADD $hll"],
    ),
    ("pfmerge", &["PFMERGE $hll $hll $hll"]),
    ("pfcount", &["PFCOUNT $hll"]),
    ("pfdebug", &["PFADD $hll $member ; PFDEBUG TODENSE $1"]),
    // Lists.
    ("lpush", &["LPUSH $lst $val $val", "LPUSH $lst $member"]),
    (
        "rpush",
        &["RPUSH $lst $val $val", "RPUSH $lst $int $int $int"],
    ),
    ("lpushx", &["LPUSHX $lst $val"]),
    ("rpushx", &["RPUSHX $lst $val"]),
    ("lpop", &["LPOP $lst", "[6.2] LPOP $lst $few"]),
    ("rpop", &["RPOP $lst", "[6.2] RPOP $lst $few"]),
    ("rpoplpush", &["RPOPLPUSH $lst $lst"]),
    (
        "lmove",
        &["LMOVE $lst $lst LEFT RIGHT", "LMOVE $lst $lst RIGHT LEFT"],
    ),
    (
        "lmpop",
        &["LMPOP 2 $lst $lst LEFT COUNT $few", "LMPOP 1 $lst RIGHT"],
    ),
    ("blpop", &["RPUSH $lst $member ; BLPOP $1 0.01"]),
    ("brpop", &["RPUSH $lst $member ; BRPOP $1 0.01"]),
    (
        "brpoplpush",
        &["RPUSH $lst $member ; BRPOPLPUSH $1 $lst 0.01"],
    ),
    (
        "blmove",
        &["RPUSH $lst $member ; BLMOVE $1 $lst RIGHT LEFT 0.01"],
    ),
    (
        "blmpop",
        &["RPUSH $lst $member ; BLMPOP 0.01 2 $1 $lst LEFT COUNT 2"],
    ),
    (
        "linsert",
        &[
            "RPUSH $lst m1 ; LINSERT $1 BEFORE m1 $val",
            "RPUSH $lst m2 ; LINSERT $1 AFTER m2 $val",
        ],
    ),
    ("lset", &["RPUSH $lst $member ; LSET $1 -1 $val"]),
    ("lrem", &["LREM $lst 0 m1", "LREM $lst -2 $member"]),
    ("ltrim", &["LTRIM $lst 0 $small", "LTRIM $lst -50 -1"]),
    (
        "sort",
        &[
            "SORT $lst ALPHA STORE $lst",
            "SORT $set ALPHA DESC LIMIT 0 10 STORE $lst",
            "SORT $zs ALPHA STORE $lst",
        ],
    ),
    // Sets.
    (
        "sadd",
        &["SADD $set $member $member $member", "SADD $set $int $int"],
    ),
    ("srem", &["SREM $set $member $member"]),
    ("spop", &["SPOP $set", "SPOP $set $few"]),
    (
        "smove",
        &["SADD $set x ; SMOVE $1 $set x", "SMOVE $set $set $member"],
    ),
    ("sinterstore", &["SINTERSTORE $set $set $set"]),
    ("sunionstore", &["SUNIONSTORE $set $set $set"]),
    ("sdiffstore", &["SDIFFSTORE $set $set $set"]),
    // Sorted sets.
    (
        "zadd",
        &[
            "ZADD $zs $float $member $float $member",
            "ZADD $zs NX $float $member",
            "ZADD $zs XX CH $float $member",
            "ZADD $zs INCR $float $member",
            "[6.2] ZADD $zs GT $float $member",
            "[6.2] ZADD $zs LT CH $float $member",
            "ZADD $zs -inf $member +inf $member",
            "ZADD $lex 0 $member 0 $member 0 $member",
        ],
    ),
    ("zincrby", &["ZINCRBY $zs $float $member"]),
    ("zrem", &["ZREM $zs $member $member"]),
    ("zpopmin", &["ZPOPMIN $zs", "ZPOPMIN $zs $few"]),
    ("zpopmax", &["ZPOPMAX $zs", "ZPOPMAX $zs $few"]),
    ("bzpopmin", &["ZADD $zs 1 $member ; BZPOPMIN $1 $zs 0.01"]),
    ("bzpopmax", &["ZADD $zs 1 $member ; BZPOPMAX $1 $zs 0.01"]),
    (
        "zmpop",
        &["ZMPOP 2 $zs $zs MIN COUNT $few", "ZMPOP 1 $zs MAX"],
    ),
    (
        "bzmpop",
        &["ZADD $zs 1 $member ; BZMPOP 0.01 1 $1 MAX COUNT 2"],
    ),
    ("zremrangebyrank", &["ZREMRANGEBYRANK $zs 0 2"]),
    ("zremrangebyscore", &["ZREMRANGEBYSCORE $zs (-3.5 0"]),
    ("zremrangebylex", &["ZREMRANGEBYLEX $lex [m1 (m3"]),
    (
        "zunionstore",
        &[
            "ZUNIONSTORE $zs 2 $zs $zs",
            "ZUNIONSTORE $zs 2 $zs $set WEIGHTS 2 0.5 AGGREGATE MAX",
        ],
    ),
    (
        "zinterstore",
        &[
            "ZINTERSTORE $zs 2 $zs $zs AGGREGATE MIN",
            "ZINTERSTORE $zs 2 $zs $set",
        ],
    ),
    ("zdiffstore", &["ZDIFFSTORE $zs 2 $zs $zs"]),
    (
        "zrangestore",
        &[
            "ZRANGESTORE $zs $zs 0 20",
            "ZRANGESTORE $zs $zs -5 5 BYSCORE LIMIT 0 10",
            "ZRANGESTORE $lex $lex [m1 [m5 BYLEX",
        ],
    ),
    (
        "geoadd",
        &[
            "GEOADD $geo $lon $lat $member $lon $lat $member",
            "[6.2] GEOADD $geo NX $lon $lat $member",
        ],
    ),
    (
        "georadius",
        &[
            "GEORADIUS $geo $lon $lat 2000 km STORE $geo",
            "GEORADIUS $geo 0 0 9000 km STOREDIST $zs",
        ],
    ),
    (
        "georadiusbymember",
        &["GEOADD $geo $lon $lat here ; GEORADIUSBYMEMBER $1 here 3000 km STORE $geo"],
    ),
    (
        "geosearchstore",
        &[
            "GEOSEARCHSTORE $geo $geo FROMLONLAT $lon $lat BYRADIUS 3000 km",
            "GEOSEARCHSTORE $zs $geo FROMLONLAT 0 0 BYBOX 9000 9000 km STOREDIST",
        ],
    ),
    // Hashes.
    (
        "hset",
        &["HSET $hs $field $val $field $val", "HSET $hs $field $val"],
    ),
    ("hmset", &["HMSET $hs $field $val $field $int"]),
    ("hsetnx", &["HSETNX $hs $field $val"]),
    ("hincrby", &["HINCRBY $hn $field $small"]),
    ("hincrbyfloat", &["HINCRBYFLOAT $hf $field $float"]),
    ("hdel", &["HDEL $hs $field $field", "HDEL $hn $field"]),
    (
        "hexpire",
        &[
            "HEXPIRE $hs $sec FIELDS 2 $field $field",
            "HEXPIRE $hs $sec NX FIELDS 1 $field",
            "HEXPIRE $hs $sec GT FIELDS 1 $field",
        ],
    ),
    (
        "hpexpire",
        &[
            "HPEXPIRE $hs $ms FIELDS 2 $field $field",
            "HPEXPIRE $hn $ms LT FIELDS 1 $field",
        ],
    ),
    ("hexpireat", &["HEXPIREAT $hs $at FIELDS 1 $field"]),
    (
        "hpexpireat",
        &["HPEXPIREAT $hs $atms XX FIELDS 2 $field $field"],
    ),
    ("hpersist", &["HPERSIST $hs FIELDS 2 $field $field"]),
    ("hgetdel", &["HGETDEL $hs FIELDS 2 $field $field"]),
    (
        "hgetex",
        &[
            "HGETEX $hs EX $sec FIELDS 2 $field $field",
            "HGETEX $hs PXAT $atms FIELDS 1 $field",
            "HGETEX $hs PERSIST FIELDS 1 $field",
        ],
    ),
    (
        "hsetex",
        &[
            "HSETEX $hs EX $sec FIELDS 2 $field $val $field $val",
            "HSETEX $hs FNX PX $ms FIELDS 1 $field $val",
            "HSETEX $hs KEEPTTL FIELDS 1 $field $val",
            "HSETEX $hs FXX EXAT $at FIELDS 1 $field $val",
        ],
    ),
    // Streams: of two pools, one with ids of the server's clock, one with ids that the maker knows.
    (
        "xadd",
        &[
            "XADD $st * $field $val",
            "XADD $st MAXLEN ~ 200 * $field $val $field $int",
            "XADD $sx $newid $field $val",
            "XADD $sx MAXLEN 60 $newid $field $val",
            "[6.2] XADD $sx MINID $oldid $newid $field $val",
            "[6.2] XADD $st NOMKSTREAM * $field $val",
            "[7.0] XADD $st 99999999999999-* $field $val",
            "[R8.2] XADD $st ACKED MAXLEN 50 * $field $val",
        ],
    ),
    (
        "xtrim",
        &[
            "XTRIM $st MAXLEN 100",
            "[6.2] XTRIM $st MAXLEN ~ 50 LIMIT 20",
            "[6.2] XTRIM $sx MINID $oldid",
        ],
    ),
    ("xdel", &["XDEL $sx $oldid $oldid $oldid"]),
    (
        "xdelex",
        &[
            "XDELEX $sx ACKED IDS 2 $oldid $oldid",
            "XDELEX $sx DELREF IDS 1 $oldid",
        ],
    ),
    ("xackdel", &["XACKDEL $sx $grp DELREF IDS 2 $oldid $oldid"]),
    ("xsetid", &["XSETID $sx $newid"]),
    (
        "xgroup|create",
        &[
            "XGROUP CREATE $sx $grp $ MKSTREAM",
            "XGROUP CREATE $st $grp 0 MKSTREAM",
            "[7.0] XGROUP CREATE $sx $grp 0 MKSTREAM ENTRIESREAD 3",
        ],
    ),
    (
        "xgroup|createconsumer",
        &["[6.2] XGROUP CREATE $sx $grp 0 MKSTREAM ; XGROUP CREATECONSUMER $1 $grp $con"],
    ),
    ("xgroup|delconsumer", &["XGROUP DELCONSUMER $sx $grp $con"]),
    ("xgroup|destroy", &["XGROUP DESTROY $sx $grp"]),
    ("xgroup|setid", &["XGROUP SETID $sx $grp $oldid"]),
    (
        "xreadgroup",
        &[
            "XGROUP CREATE $sx g0 0 MKSTREAM ; XADD $1 $newid f v ; XREADGROUP GROUP g0 $con COUNT 5 STREAMS $1 >",
            "XREADGROUP GROUP $grp $con COUNT 3 STREAMS $st >",
            "XREADGROUP GROUP $grp $con COUNT 3 NOACK STREAMS $sx >",
            "XADD $sx $newid f v ; XREADGROUP GROUP $grp $con BLOCK 10 STREAMS $1 >",
        ],
    ),
    ("xack", &["XACK $sx $grp $oldid $oldid $oldid"]),
    (
        "xclaim",
        &[
            "XCLAIM $sx $grp $con 0 $oldid $oldid",
            "XCLAIM $sx $grp $con 0 $oldid JUSTID",
            "XCLAIM $sx $grp $con 0 $oldid FORCE RETRYCOUNT 3",
        ],
    ),
    ("xautoclaim", &["XAUTOCLAIM $sx $grp $con 0 0 COUNT 4"]),
    // Vector sets.
    // A VADD that gives a member another vector is not in the replication stream (seen on Redis 8.2), so that members
    // are removed first.
    (
        "vadd",
        &[
            "VREM $vec m1 ; VADD $1 VALUES 3 $float $float $float m1 NOQUANT",
            "VREM $vec m2 ; VADD $1 VALUES 3 $float $float $float m2 NOQUANT",
            "VREM $vec m3 ; VADD $1 VALUES 3 $float $float $float m3 NOQUANT",
        ],
    ),
    ("vrem", &["VREM $vec $member"]),
    ("vsetattr", &["VSETATTR $vec $member {\"a\":$small}"]),
    // Keys of any type.
    ("del", &["DEL $any $any", "DEL $any"]),
    ("unlink", &["UNLINK $any $any", "UNLINK $any"]),
    (
        "expire",
        &[
            "EXPIRE $any $sec",
            "[7.0] EXPIRE $any $sec NX",
            "[7.0] EXPIRE $any $sec XX",
            "[7.0] EXPIRE $any $sec GT",
            "[7.0] EXPIRE $any $sec LT",
        ],
    ),
    (
        "pexpire",
        &["PEXPIRE $any $ms", "[7.0] PEXPIRE $any $ms GT"],
    ),
    ("expireat", &["EXPIREAT $any $at"]),
    (
        "pexpireat",
        &["PEXPIREAT $any $atms", "[7.0] PEXPIREAT $any $atms LT"],
    ),
    ("persist", &["PERSIST $any"]),
    (
        "rename",
        &[
            "RENAME $str $str",
            "RENAME $lst $lst",
            "RENAME $zs $zs",
            "RENAME $hs $hs",
            "RENAME $set $any",
        ],
    ),
    (
        "renamenx",
        &[
            "RENAMENX $str $str",
            "RENAMENX $set $set",
            "RENAMENX $hs $hs",
        ],
    ),
    (
        "copy",
        &[
            "COPY $lst $lst REPLACE",
            "COPY $zs $zs",
            "COPY $hs $hs REPLACE",
            "COPY $sx $sx REPLACE",
            "[alone] COPY $str $str DB $db REPLACE",
        ],
    ),
    ("move", &["MOVE $any $db"]),
    ("touch", &["TOUCH $any $any"]),
    (
        "restore",
        &[
            "RESTORE $str 0 $dumpstr REPLACE",
            "RESTORE $lst $ms $dumplst REPLACE",
            "RESTORE $set $atms $dumpset REPLACE ABSTTL",
            "RESTORE $zs 0 $dumpzs REPLACE",
            "RESTORE $hs 0 $dumphs REPLACE",
            "RESTORE $str 0 $dumpstr",
        ],
    ),
    // Several at once.
    (
        "exec",
        &[
            "MULTI ; SET $str $val ; INCR $num ; RPUSH $lst $val ; ZADD $zs $float $member ; EXEC",
            "MULTI ; HSET $hs $field $val ; PEXPIRE $1 $ms ; XADD $sx $newid f v ; EXEC",
            "MULTI ; INCR $num ; INCR $1 ; DEL $str ; SADD $set $member ; EXEC",
            "MULTI ; SET $str x ; APPEND $1 y ; INCR $1 ; EXPIRE $1 $sec ; EXEC",
            "MULTI ; GET $str ; EXEC",
        ],
    ),
    ("discard", &["MULTI ; SET $str $val ; DISCARD"]),
    (
        "eval",
        &[
            "EVAL $script 2 $num $lst $member",
            "EVAL $script 2 $num $lst $val",
        ],
    ),
    ("evalsha", &["EVALSHA $sha 2 $num $lst $member"]),
    ("fcall", &["FCALL keyhaul_push 1 $lst $member"]),
    ("function|load", &["[alone] FUNCTION LOAD REPLACE $library"]),
    (
        "function|delete",
        &[
            "[alone] FUNCTION LOAD REPLACE $library ; FUNCTION DELETE keyhaul_library ; FUNCTION LOAD $library",
        ],
    ),
    (
        "function|flush",
        &["[alone] FUNCTION FLUSH SYNC ; FUNCTION LOAD REPLACE $library"],
    ),
    (
        "function|restore",
        &["[alone] FUNCTION RESTORE $functions REPLACE"],
    ),
    ("publish", &["PUBLISH channel $val"]),
    // Whole dbs.
    ("flushdb", &["FLUSHDB", "[6.2] FLUSHDB SYNC"]),
    ("flushall", &["FLUSHALL", "FLUSHALL ASYNC"]),
    ("swapdb", &["[alone] SWAPDB $db $db"]),
];
