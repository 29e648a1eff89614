//! Addresses of a guest's network adapter, by the key-value pair exchange.

use std::net::IpAddr;

use serde::Deserialize;

use super::plug;
use super::services::ask;
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, done};
use crate::vsp::network::provider::NetworkVsp;
use crate::vsp::services::Request;
use crate::vsp::services::kvp::{Adapter, KeyValue};
use crate::vsp::services::protocol::Failure;
use crate::vsp::services::table::Kind;
use crate::vsp::services::wire::Status;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    /// The guest takes its addresses from DHCP.
    dhcp: bool,
    /// Addresses, each with its prefix length.
    addresses: Vec<String>,
    gateways: Vec<IpAddr>,
    name_servers: Vec<IpAddr>,
}

/// Requests that the guest configures an adapter.
pub fn configure(exchange: &Exchange<'_>) -> Answered {
    let body: Body = exchange.request.json()?;
    let number = plug::adapter_number(exchange)?;
    let adapter = adapter(body).map_err(Problem::invalid)?;
    let request = KeyValue::Configure(NetworkVsp::instance(number), adapter);
    ask(exchange, Kind::KeyValue, Request::KeyValue(request)).map_err(|mut problem| {
        if problem.message == Failure::Guest(Status::FAIL).to_string() {
            problem.message = "the guest's KVP daemon could not apply the addresses".into();
            problem.remedy =
                Some("its script hv_set_ifconfig must exist and succeed: docs/services.md#addresses".into());
        }
        problem
    })?;
    done()
}

/// Returns the configuration as the guest gets it, or the reason why it is invalid.
fn adapter(Body { dhcp, addresses, gateways, name_servers }: Body) -> Result<Adapter, String> {
    if !dhcp && addresses.is_empty() {
        return Err("an adapter needs an address, or dhcp".into());
    }
    if dhcp && !(addresses.is_empty() && gateways.is_empty()) {
        return Err("with dhcp, addresses and gateways come from its server".into());
    }
    let mut adapter = Adapter { dhcp, ..Adapter::default() };
    for text in addresses {
        let (address, mask) = address(&text)
            .ok_or_else(|| format!("`{text}` is not an address with its prefix length, such as 10.0.0.5/24"))?;
        adapter.addresses.push(address.to_string());
        adapter.masks.push(mask);
    }
    adapter.gateways = gateways.iter().map(IpAddr::to_string).collect();
    adapter.name_servers = name_servers.iter().map(IpAddr::to_string).collect();
    Ok(adapter)
}

/// Splits `10.0.0.5/24` into the address and its network mask; for IPv6, the mask is the length itself.
fn address(text: &str) -> Option<(IpAddr, String)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let mask = match address {
        IpAddr::V4(_) => {
            std::net::Ipv4Addr::from_bits(u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0)).to_string()
        }
        IpAddr::V6(_) => (length <= 128).then(|| length.to_string())?,
    };
    Some((address, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_mask_or_a_length() {
        let mask = |text| address(text).map(|(_, mask)| mask);
        for (text, expected) in [
            ("10.0.0.5/24", "255.255.255.0"),
            ("10.0.0.5/0", "0.0.0.0"),
            ("10.0.0.5/32", "255.255.255.255"),
            ("10.0.0.5/9", "255.128.0.0"),
            ("fd00::5/64", "64"),
            ("fd00::5/128", "128"),
        ] {
            assert_eq!(mask(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["10.0.0.5", "10.0.0.5/33", "fd00::5/129", "10.0.0/24", "/24", "10.0.0.5/", "10.0.0.5/-1", "a;b/24"]
        {
            assert_eq!(mask(text), None, "{text}");
        }
    }

    #[test]
    fn a_configuration_is_static_or_dynamic() {
        let parsed = |json: &str| adapter(serde_json::from_str(json).expect("a body"));
        let fixed = parsed(
            r#"{"addresses": ["10.0.0.5/24", "fd00::5/64"], "gateways": ["10.0.0.1"], "name-servers": ["10.0.0.2"]}"#,
        );
        let fixed = fixed.unwrap();
        assert_eq!(
            (fixed.addresses.join(" "), fixed.masks.join(" ")),
            ("10.0.0.5 fd00::5".into(), "255.255.255.0 64".into())
        );
        assert_eq!((fixed.gateways.join(" "), fixed.name_servers.join(" ")), ("10.0.0.1".into(), "10.0.0.2".into()));
        let dynamic = parsed(r#"{"dhcp": true, "name-servers": ["10.0.0.2"]}"#).unwrap();
        assert!(dynamic.dhcp && dynamic.addresses.is_empty());
        for wrong in ["{}", r#"{"gateways": ["10.0.0.1"]}"#, r#"{"dhcp": true, "addresses": ["10.0.0.5/24"]}"#] {
            parsed(wrong).unwrap_err();
        }
    }
}
