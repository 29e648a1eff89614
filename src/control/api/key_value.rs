//! Items of the key-value pair exchange.

use serde::Deserialize;
use serde_json::{Value, json};

use super::services::ask;
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply, done};
use crate::vsp::services::kvp::{self, Item, KeyValue, Pool};
use crate::vsp::services::table::Kind;
use crate::vsp::services::{Answer, Request};

/// The pools, and their names in paths.
const POOLS: [(&str, Pool); 4] =
    [("external", Pool::External), ("guest", Pool::Guest), ("intrinsic", Pool::Intrinsic), ("host", Pool::Host)];

/// Returns the pool that the path names.
fn pool(exchange: &Exchange<'_>) -> Result<Pool, Problem> {
    let name = exchange.name(0);
    let names = POOLS.map(|(name, _)| name).join(", ");
    let unknown = || Problem::not_found(format!("there is no pool {name:?}; there are {names}"));
    POOLS.into_iter().find(|(known, _)| *known == name).map(|(_, pool)| pool).ok_or_else(unknown)
}

fn request(exchange: &Exchange<'_>, request: KeyValue) -> Result<Answer, Problem> {
    ask(exchange, Kind::KeyValue, Request::KeyValue(request))
}

fn unexpected(answer: &Answer) -> Problem {
    Problem::host(format!("the service gives an answer of another kind: {answer:?}"))
}

/// Returns the items of a pool.
pub fn list(exchange: &Exchange<'_>) -> Answered {
    match request(exchange, KeyValue::List(pool(exchange)?))? {
        Answer::Items(items) => Ok(Reply::Json(json!(items))),
        other => Err(unexpected(&other)),
    }
}

/// Returns an item.
pub fn get(exchange: &Exchange<'_>) -> Answered {
    let key = exchange.name(1);
    match request(exchange, KeyValue::Get(pool(exchange)?, key.to_owned()))? {
        Answer::Value(Some(value)) => Ok(Reply::Json(json!({ "key": key, "value": value }))),
        Answer::Value(None) => Err(Problem::not_found(format!("the pool has no item {key:?}"))),
        other => Err(unexpected(&other)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    value: Value,
}

/// Adds or replaces an item.
pub fn set(exchange: &Exchange<'_>) -> Answered {
    let Body { value } = exchange.request.json()?;
    let value = match (&value, value.as_u64()) {
        (Value::String(text), _) => kvp::Value::Text(text.clone()),
        (_, Some(number)) => u32::try_from(number).map_or(kvp::Value::Number64(number), kvp::Value::Number32),
        _ => return Err(Problem::invalid("the value of an item is a text or a number from 0 to 2^64-1")),
    };
    let item = Item { key: exchange.name(1).to_owned(), value };
    request(exchange, KeyValue::Set(pool(exchange)?, vec![item]))?;
    done()
}

/// Deletes an item.
pub fn delete(exchange: &Exchange<'_>) -> Answered {
    request(exchange, KeyValue::Delete(pool(exchange)?, exchange.name(1).to_owned()))?;
    done()
}
