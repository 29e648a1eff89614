//! `key=value` lists: the command-line syntax of an option with several fields.
//!
//! `512M,hugepages=on` fills a struct by its serde description. The first entry may omit its key, and then sets the
//! struct's first field. A comma in a value is written twice, as in QEMU. In a TOML file, the same struct is a table or
//! such a string.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use crate::wire::entries;

/// An error in a `key=value` list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(String);

impl de::Error for TextError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self(unknown("key", field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(unknown("value", variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("{field}=… is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(format!("{field} is given twice"))
    }
}

/// Returns an error such as "unknown key `hugepage`; did you mean `hugepages`?", or one with the list of known keys.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (strsim::damerau_levenshtein(word, name), *name)).min();
    match nearest {
        Some((distance, name)) if distance <= name.len().min(word.len()).div_ceil(2) => {
            format!("unknown {what} `{word}`; did you mean `{name}`?")
        }
        _ => format!("unknown {what} `{word}`; known are: {}", known.join(", ")),
    }
}

/// Parses a `key=value` list.
///
/// # Errors
/// Returns an error for an unknown key (with the nearest known one), a key that is repeated or missing, or a value that
/// does not fit its field.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, TextError> {
    T::deserialize(List(text))
}

/// For `#[serde(deserialize_with)]`: a `key=value` string, or a table.
///
/// # Errors
/// Returns the errors of [`parse`] and of the file format.
pub fn or_table<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Either::<T>::deserialize(deserializer).map(|Either(value)| value)
}

/// For `#[serde(deserialize_with)]`: a list of `key=value` strings or tables, or just one.
///
/// # Errors
/// Returns the errors of [`parse`] and of the file format.
pub fn or_tables<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Several<T>(PhantomData<T>);
    impl<'de, T: DeserializeOwned> Visitor<'de> for Several<T> {
        type Value = Vec<T>;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of strings or tables")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![parse(text).map_err(E::custom)?])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(Either(value)) = list.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
    deserializer.deserialize_any(Several(PhantomData))
}

/// For `#[serde(with)]`: a value that is written as text in files, as on the command line.
pub mod plain {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the value's text.
    ///
    /// # Errors
    /// Returns the error of the file format.
    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads the value's text.
    ///
    /// # Errors
    /// Returns an error if the text is invalid, or the error of the file format.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// For `#[serde(with)]`: an optional value that is written as text in files, as on the command line.
pub mod optional {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserializer, Serializer};

    /// Writes the value's text.
    ///
    /// # Errors
    /// Returns the error of the file format.
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the value's text.
    ///
    /// # Errors
    /// Returns an error if the text is invalid, or the error of the file format.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        super::plain::deserialize(deserializer).map(Some)
    }
}

struct Either<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Either<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for TextOrTable<T> {
            type Value = Either<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a table")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Either<T>, E> {
                parse(text).map(Either).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Either<T>, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Either<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Either)
            }
        }
        deserializer.deserialize_any(TextOrTable(PhantomData))
    }
}

/// A list that has not been parsed. The names of the struct's fields come from serde when it asks for them.
struct List<'a>(&'a str);

impl<'de> Deserializer<'de> for List<'_> {
    type Error = TextError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TextError> {
        let mut entries = Vec::new();
        for (position, entry) in entries::split(self.0).into_iter().enumerate() {
            let (key, value) = match entry.split_once('=') {
                // A first entry such as `/tmp/a=b` is a value with an equals sign, not a key.
                Some((key, value)) if position > 0 || is_key(key) => (key.to_owned(), value.to_owned()),
                _ if position == 0 && !fields.is_empty() => (fields[0].to_owned(), entry),
                _ => {
                    return Err(TextError(format!(
                        "`{entry}` is not of the form key=value; a comma that belongs to a value is written twice"
                    )));
                }
            };
            entries.push((key, Value(value)));
        }
        visitor.visit_map(MapDeserializer::new(entries.into_iter()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_str(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn is_key(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// A value that is parsed as the type that its field asks for.
struct Value(String);

impl IntoDeserializer<'_, TextError> for Value {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl Value {
    fn number<T: std::str::FromStr>(&self) -> Result<T, TextError> {
        self.0.parse().map_err(|_| TextError(format!("`{}` is not a number in range", self.0)))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
            visitor.$visit(self.number()?)
        })*
    };
}

impl<'de> Deserializer<'de> for Value {
    type Error = TextError;

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        match self.0.as_str() {
            "on" | "true" | "yes" => visitor.visit_bool(true),
            "off" | "false" | "no" => visitor.visit_bool(false),
            other => Err(TextError(format!("`{other}` is neither on nor off"))),
        }
    }

    numbers! {
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_i32 visit_i32 deserialize_i64 visit_i64 deserialize_f64 visit_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TextError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TextError> {
        visitor.visit_string(self.0)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
