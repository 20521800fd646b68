//! A wrong command line in one line of text, without the values that were typed: one of them may be
//! a password in the wrong place.

use std::error::Error;
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is wrong with the command line, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UsageError {}

/// Says what the parser has to complain about.
///
/// The parser's own text is not used: it repeats what was typed, and takes several lines for it.
pub(crate) fn from_clap(error: &clap::Error) -> UsageError {
    let option = || context(error, ContextKind::InvalidArg).unwrap_or_else(|| "an option".into());
    let message = match error.kind() {
        ErrorKind::UnknownArgument => unknown_argument(error),
        ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let command = match is_of_keystats(error) {
                true => "keystats memkeys, slots or report, each with SOURCE",
                false => "replicate SOURCE TARGET",
            };
            format!("the command is missing or unknown: use keyhaul {command}")
        }
        ErrorKind::MissingRequiredArgument => format!("{} is missing", option()),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            match context(error, ContextKind::ValidValue) {
                Some(valid) => format!("{} takes one of {valid}", option()),
                None => format!("{} needs a value", option()),
            }
        }
        ErrorKind::NoEquals | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => {
            format!("{} needs a value", option())
        }
        ErrorKind::TooManyValues => format!("{} takes no value", option()),
        ErrorKind::ArgumentConflict => format!("{} is given more than once", option()),
        ErrorKind::InvalidUtf8 => "an argument is no UTF-8".into(),
        _ => "the command line cannot be understood".into(),
    };
    UsageError(format!("{message} (see --help)"))
}

fn unknown_argument(error: &clap::Error) -> String {
    let typed = context(error, ContextKind::InvalidArg).unwrap_or_default();
    // `--name=value`: the value is nobody's business.
    let name = typed.split('=').next().unwrap_or_default();
    let is_option_name =
        name.starts_with('-') && name.chars().all(|c| c == '-' || c.is_ascii_alphanumeric());
    if !is_option_name {
        return match is_of_keystats(error) {
            true => "an argument too many: one SOURCE is read; several RDB files are one, with commas between them".into(),
            false => {
                "an argument too many: the only ones without a name are SOURCE and TARGET".into()
            }
        };
    }
    match context(error, ContextKind::SuggestedArg) {
        Some(suggested) => format!("unknown option {name}, did you mean {suggested}?"),
        None => format!("unknown option {name}"),
    }
}

/// Whether it is about a command of `keyhaul keystats`.
fn is_of_keystats(error: &clap::Error) -> bool {
    let text = error.render().to_string();
    text.contains("Usage: keyhaul keystats")
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    }
}
