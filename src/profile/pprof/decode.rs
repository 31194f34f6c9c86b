//! Decoding into structs, for whoever changes or shows a profile.

use super::{
    Rule, RuleSet, Unreadable,
    check::check,
    walk::STRING,
    wire::{Wire, put_bytes},
};
use crate::r#gen::pprof::Profile;
use prost::Message;

/// Decodes an inflated pprof and mends its tables, so that whatever refers to
/// something finds it. Sets the rules that were mended. Unknown fields are lost.
pub(in crate::profile) fn decode(inflated: &[u8]) -> Result<(Profile, RuleSet), Unreadable> {
    // A walk first: it explains failures better than the decoder.
    let checked = check(inflated)?;
    let mut mended = RuleSet::EMPTY;
    let decoded = match checked.broken.contains(Rule::InvalidUtf8) {
        true => {
            mended.insert(Rule::InvalidUtf8);
            Profile::decode(lossy(inflated).as_slice())
        }
        false => Profile::decode(inflated),
    };
    // The walk accepts nothing that prost does not.
    let mut profile = decoded.map_err(|_| Unreadable::Undecodable)?;
    super::repair::mend_tables(&mut profile, &mut mended);
    Ok((profile, mended))
}

/// The same message with strings that are UTF-8, at wire level: prost refuses
/// others.
fn lossy(inflated: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inflated.len() + 64);
    let mut wire = Wire(inflated);
    loop {
        let before = wire.0;
        let Ok(Some(key)) = wire.key() else {
            return out;
        };
        if key == STRING {
            let Ok(string) = wire.bytes() else {
                return out;
            };
            let string = String::from_utf8_lossy(string);
            put_bytes(&mut out, key >> 3, string.as_bytes());
        } else {
            if wire.skip(key).is_err() {
                return out;
            }
            out.extend_from_slice(&before[..before.len() - wire.0.len()]);
        }
    }
}
