//! Paths and arguments in JSON: they are bytes, and what is not UTF-8 is kept, escaped.
//!
//! A byte that is no UTF-8 is `\xNN`, and a backslash is `\\`; all else is as it is.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// `bytes` as text from which [`decode`] gets them back.
pub fn encode(bytes: &OsStr) -> String {
    let mut text = String::new();
    for chunk in bytes.as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            write!(text, r"\x{byte:02x}").expect("write to a string");
        }
    }
    text
}

/// The bytes of what [`encode`] wrote; what it would not have written stays as it is.
pub fn decode(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let hex = after.strip_prefix('x').and_then(|hex| hex.get(..2));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match byte {
            Some(byte) => {
                bytes.push(byte);
                &after[3..]
            }
            None => {
                bytes.push(b'\\');
                after.strip_prefix('\\').unwrap_or(after)
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    OsString::from_vec(bytes)
}

/// For `#[serde(with = "bytes::path")]`.
pub mod path {
    use std::path::Path;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{PathBuf, decode, encode};

    /// Writes a path.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(path.as_os_str()))
    }

    /// Reads a path.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(decode(&String::deserialize(deserializer)?).into())
    }
}

/// For `#[serde(with = "bytes::optional_path")]`.
pub mod optional_path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{PathBuf, decode, encode};

    /// Writes a path, if there is one.
    pub fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = path.as_ref().map(|path| encode(path.as_os_str()));
        text.serialize(serializer)
    }

    /// Reads a path, if there is one.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(|text| decode(&text).into()))
    }
}

/// For `#[serde(with = "bytes::os_strings")]`: a list of arguments.
pub mod os_strings {
    use std::ffi::{OsStr, OsString};

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{decode, encode};

    /// Writes them.
    pub fn serialize<S: Serializer>(
        list: &[impl AsRef<OsStr>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|one| encode(one.as_ref())))
    }

    /// Reads them.
    pub fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        Ok(list.iter().map(|text| T::from(decode(text))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_and_plain_text_is_plain() {
        for bytes in [
            &b"/plain/p\xc3\xa4th"[..],
            b"a\xffb\\xff\\",
            b"\\\\x00",
            b"",
            b"\xc3",
        ] {
            let bytes = OsStr::from_bytes(bytes);
            assert_eq!(decode(&encode(bytes)), bytes);
        }
        assert_eq!(encode(OsStr::from_bytes(b"a\xff")), r"a\xff");
        assert_eq!(encode("/plain/päth".as_ref()), "/plain/päth");
    }
}
