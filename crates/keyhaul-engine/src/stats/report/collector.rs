//! A report of the keys that a pass finds.

use std::io;

use serde_json::Value;

use super::ReportBuilder;
use crate::stats::{Collector, KeyFacts};

/// What was counted cannot be taken back: it is not known of which key a sum is made.
impl Collector for ReportBuilder {
    fn take(&mut self, facts: &KeyFacts<'_>) {
        ReportBuilder::take(self, facts);
    }

    fn state(&mut self) -> Option<Value> {
        Some(Value::String(self.to_text()))
    }

    fn go_on_from(&mut self, state: &Value) -> io::Result<bool> {
        let text = state.as_str().unwrap_or_default();
        let earlier = Self::of_text(text, &self.options);
        let fits = earlier.is_some();
        if let Some(earlier) = earlier {
            *self = earlier;
        }
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::report::{ReportOptions, SizeKind};

    fn take(builder: &mut ReportBuilder, key: &[u8]) {
        let collector: &mut dyn Collector = builder;
        collector.take(&KeyFacts {
            db: 0,
            key,
            key_type: None,
            encoding: None,
            size_bytes: 10,
            elements: None,
            expire_at_ms: None,
        });
    }

    #[test]
    fn goes_on_from_what_was_written_down() {
        let options = ReportOptions::new(SizeKind::Memory, 5);
        let mut earlier = ReportBuilder::new(options.clone());
        take(&mut earlier, b"a:1");
        let state = earlier.state().unwrap();
        let mut later = ReportBuilder::new(options);
        take(&mut later, b"not kept");
        for bad in [Value::Null, Value::String("{".into())] {
            assert!(!later.go_on_from(&bad).unwrap());
        }
        assert!(later.go_on_from(&state).unwrap());
        take(&mut later, b"a:2");
        take(&mut earlier, b"a:2");
        assert_eq!(later, earlier);
    }
}
