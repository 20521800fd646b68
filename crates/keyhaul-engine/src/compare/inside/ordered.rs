//! Strings and lists: what differs has a place.

use keyhaul_rdb::{Element, Flaw};

use super::text::{self, Lines, Text};
use super::{Part, Steps};

/// Two strings.
pub(super) fn string(source: Part<'_>, target: Part<'_>, lines: &mut Lines) -> Result<(), Flaw> {
    let whole = |part: Part<'_>| {
        let mut whole = Vec::new();
        part.for_each(|element| {
            if let Element::String(bytes) = element {
                whole.extend_from_slice(bytes);
            }
        })?;
        Ok(whole)
    };
    let (source, target) = (whole(source)?, whole(target)?);
    if source.len() != target.len() {
        let (ours, theirs) = (source.len() as u64, target.len() as u64);
        lines.push(|| text::lengths("length", ours, theirs));
    }
    let at = text::first_difference(&source, &target);
    if at < source.len().max(target.len()) {
        lines.push(|| text::at_byte(at as u64, &source, &target, at));
    }
    Ok(())
}

/// Two lists.
pub(super) fn list(source: Part<'_>, target: Part<'_>, lines: &mut Lines) -> Result<(), Flaw> {
    let (mut ours, mut theirs) = (Steps::new(source, item)?, Steps::new(target, item)?);
    let mut differing = Vec::new();
    let (mut more, mut index, mut lengths) = (0, 0, [0_u64; 2]);
    loop {
        let (one, other) = (ours.next()?, theirs.next()?);
        lengths[0] += u64::from(one.is_some());
        lengths[1] += u64::from(other.is_some());
        match (one, other) {
            (Some(one), Some(other)) if one != other => match differing.len() < lines.room() {
                true => differing.push((index, one, other)),
                false => more += 1,
            },
            (None, None) => break,
            _ => {}
        }
        index += 1;
    }
    if lengths[0] != lengths[1] {
        lines.push(|| text::lengths("length", lengths[0], lengths[1]));
    }
    for (index, one, other) in &differing {
        lines.push(|| text::item(*index, one, other));
    }
    lines.add_more(more);
    Ok(())
}

fn item(element: Element<'_>) -> Option<Text> {
    match element {
        Element::Item(item) => Some(Text::whole(item)),
        _ => None,
    }
}
