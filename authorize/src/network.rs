//! Addresses and networks in expressions, with the names of Kubernetes' library: `ip`, `isIP`, `cidr`, `containsIP`, `family`.

use std::net::IpAddr;
use std::sync::Arc;

use cel::extractors::This;
use cel::objects::Opaque;
use cel::{Context, ExecutionError, Value};
use ipnet::{IpNet, Ipv4Net};

/// The longest text of an address or network.
const MAX_TEXT: usize = 64;

/// An address.
#[derive(Debug, PartialEq, Eq)]
struct Ip(IpAddr);

impl Opaque for Ip {
    fn runtime_type_name(&self) -> &str {
        "net.IP"
    }
}

/// A network.
#[derive(Debug, PartialEq, Eq)]
struct Cidr(IpNet);

impl Opaque for Cidr {
    fn runtime_type_name(&self) -> &str {
        "net.CIDR"
    }
}

/// The address in a text. An IPv4-mapped IPv6 address is the IPv4 address.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().filter(|_| text.len() <= MAX_TEXT)?;
    Some(address.to_canonical())
}

/// The network in a text, or why it is none: as the fields of a Stage that list networks.
pub(crate) fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok().filter(|_| text.len() <= MAX_TEXT);
    let network = network.ok_or_else(|| format!("{text:?} is not a network, such as 10.0.0.0/8 or 2001:db8::/32"))?;
    if network.addr() != network.network() {
        return Err(format!("{text} is not the first address of the network: write {}", network.trunc()));
    }
    let IpNet::V6(mapped) = network else { return Ok(network) };
    let v4 = mapped.network().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    let v4 = v4.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    Ok(v4.map_or(network, IpNet::V4))
}

fn failed(function: &str) -> ExecutionError {
    // Without the value, which is of the request.
    ExecutionError::function_error(function, "not valid")
}

fn ip(text: Arc<String>) -> Result<Value, ExecutionError> {
    let address = parse_ip(&text).ok_or_else(|| failed("ip"))?;
    Ok(Value::Opaque(Arc::new(Ip(address))))
}

fn is_ip(text: Arc<String>) -> bool {
    parse_ip(&text).is_some()
}

fn cidr(text: Arc<String>) -> Result<Value, ExecutionError> {
    let network = parse_cidr(&text).map_err(|_| failed("cidr"))?;
    Ok(Value::Opaque(Arc::new(Cidr(network))))
}

fn contains_ip(This(of): This<Value>, with: Value) -> Result<bool, ExecutionError> {
    let Value::Opaque(of) = &of else { return Err(failed("containsIP")) };
    let network = of.downcast_ref::<Cidr>().ok_or_else(|| failed("containsIP"))?;
    let address = match &with {
        Value::String(text) => parse_ip(text),
        Value::Opaque(with) => with.downcast_ref::<Ip>().map(|address| address.0),
        _ => None,
    };
    Ok(network.0.contains(&address.ok_or_else(|| failed("containsIP"))?))
}

fn family(This(of): This<Value>) -> Result<i64, ExecutionError> {
    let Value::Opaque(of) = &of else { return Err(failed("family")) };
    let address = of.downcast_ref::<Ip>().ok_or_else(|| failed("family"))?;
    Ok(if address.0.is_ipv4() { 4 } else { 6 })
}

/// Adds the functions.
pub(crate) fn add(context: &mut Context<'static>) {
    context.add_function("ip", ip);
    context.add_function("isIP", is_ip);
    context.add_function("cidr", cidr);
    context.add_function("containsIP", contains_ip);
    context.add_function("family", family);
}
