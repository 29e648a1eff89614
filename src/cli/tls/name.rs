//! The common name in a certificate (RFC 5280, DER).

/// The object identifier 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// The version of a certificate, if it is not 1.
const VERSION: u8 = 0xa0;

/// Returns the common name of the subject of a certificate, or `None` if there is none or the certificate is malformed.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (mut subject, _) = expect(rest, SEQUENCE)?;
    let mut found = None;
    while !subject.is_empty() {
        let (mut set, after) = expect(subject, SET)?;
        subject = after;
        while !set.is_empty() {
            let (attribute, after) = expect(set, SEQUENCE)?;
            set = after;
            let (kind, value) = expect(attribute, OBJECT_IDENTIFIER)?;
            let (tag, text, _) = element(value)?;
            if kind == COMMON_NAME && TEXTS.contains(&tag) {
                // The last one is the most specific one.
                found = Some(std::str::from_utf8(text).ok()?.to_owned());
            }
        }
    }
    found
}

/// Returns the content of the first element, which must have this tag, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Returns the tag and the content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = bytes.split_first_chunk::<2>()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        // The length has several bytes; more than four are more than any certificate has.
        let count = usize::from(first & 0x7f);
        let digits = rest.get(..count).filter(|_| (1..=4).contains(&count))?;
        length = digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = &rest[count..];
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match content.len() {
            length @ ..0x80 => bytes.push(length as u8),
            length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        bytes.extend(content);
        bytes
    }

    fn attribute(kind: u8, tag: u8, text: &str) -> Vec<u8> {
        of(SET, &of(SEQUENCE, &[of(OBJECT_IDENTIFIER, &[0x55, 0x04, kind]), of(tag, text.as_bytes())].concat()))
    }

    fn certificate(version: &[u8], subject: &[u8]) -> Vec<u8> {
        let other = [of(0x02, &[1]), of(SEQUENCE, &[]), of(SEQUENCE, &[0; 200]), of(SEQUENCE, &[])].concat();
        let signed = [version, &other, &of(SEQUENCE, subject), &of(SEQUENCE, &[0; 300])].concat();
        of(SEQUENCE, &[of(SEQUENCE, &signed), of(SEQUENCE, &[])].concat())
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let version = of(VERSION, &of(0x02, &[2]));
        let subject = [attribute(6, 0x13, "DE"), attribute(3, 0x0c, "jürgen"), attribute(10, 0x0c, "x")].concat();
        for version in [&version[..], &[]] {
            assert_eq!(common_name(&certificate(version, &subject)), Some("jürgen".into()));
        }
        assert_eq!(common_name(&certificate(&version, &attribute(6, 0x13, "DE"))), None);
        assert_eq!(common_name(&certificate(&version, &attribute(3, 0x1e, "ab"))), None, "not a text of bytes");
    }

    #[test]
    fn a_malformed_certificate_has_none() {
        let whole = certificate(&[], &attribute(3, 0x0c, "bob"));
        for end in 0..whole.len() {
            assert_eq!(common_name(&whole[..end]), None);
        }
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0x85, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = common_name(&changed);
            }
        }
    }
}
