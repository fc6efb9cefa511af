//! The kinds of value that a setting can have, and how each is read from TOML.
//!
//! Absent here: where a value stands in its file; whoever asks adds that to the rule that was
//! broken.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use toml::de::DeValue;

/// A kind of value.
pub trait Setting: Sized {
    /// What it is called in the reference.
    const KIND: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// What is demanded, as the end of a sentence: "must be …".
    fn read(value: &DeValue<'_>) -> Result<Self, String>;

    /// How it is written in the file.
    fn show(&self) -> String;
}

macro_rules! integers {
    ($($kind:ty)*) => {$(
        impl Setting for $kind {
            const KIND: &'static str = "whole number";

            fn read(value: &DeValue<'_>) -> Result<$kind, String> {
                let number = value.as_integer().ok_or("must be a whole number")?;
                let digits = number.as_str().replace('_', "");
                <$kind>::from_str_radix(&digits, number.radix())
                    .map_err(|_| format!("must be between {} and {}", <$kind>::MIN, <$kind>::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 i64 usize);

macro_rules! texts {
    ($($kind:ty, $name:literal, $rule:literal;)*) => {$(
        impl Setting for $kind {
            const KIND: &'static str = $name;

            fn read(value: &DeValue<'_>) -> Result<$kind, String> {
                value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| $rule.to_owned())
            }

            fn show(&self) -> String {
                quoted(self)
            }
        }
    )*};
}

texts! {
    String, "text", "must be text in quotes";
    SocketAddr, "address and port", "must be an IP address and a port, such as \"127.0.0.1:8400\"";
    Network, "network", "must be a network such as \"10.0.0.0/8\" or \"fd00::/8\"";
    LogFormat, "`json` or `text`", "must be \"json\" or \"text\"";
    LogLevel, "`error`, `warn`, `info`, `debug` or `trace`",
        "must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
}

impl Setting for PathBuf {
    const KIND: &'static str = "path";

    fn read(value: &DeValue<'_>) -> Result<PathBuf, String> {
        match value.as_str() {
            Some(text) if !text.is_empty() => Ok(PathBuf::from(text)),
            _ => Err("must be a path in quotes".to_owned()),
        }
    }

    fn show(&self) -> String {
        quoted(self.display())
    }
}

impl Setting for bool {
    const KIND: &'static str = "`true` or `false`";

    fn read(value: &DeValue<'_>) -> Result<bool, String> {
        value
            .as_bool()
            .ok_or_else(|| "must be true or false".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: &'static str = "list";

    fn read(value: &DeValue<'_>) -> Result<Vec<T>, String> {
        let list = value
            .as_array()
            .ok_or_else(|| format!("must be a list; each: {}", T::KIND))?;
        list.iter().map(|item| T::read(item.get_ref())).collect()
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(Setting::show).collect();
        format!("[{}]", items.join(", "))
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;

    fn read(value: &DeValue<'_>) -> Result<Option<T>, String> {
        T::read(value).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref()
            .map_or_else(|| "(none)".to_owned(), Setting::show)
    }
}

fn quoted(text: impl Display) -> String {
    format!("{:?}", text.to_string())
}

/// Addresses that share their first bits (RFC 4632 section 3.1, RFC 4291 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address: the bits after the prefix are zero.
    pub address: IpAddr,
    /// How many bits are shared.
    pub prefix_bits: u8,
}

impl Network {
    /// The address lies in it. An IPv4 network holds no IPv6 address, mapped or not.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.cut(address) == self.cut(self.address)
    }

    fn cut(&self, address: IpAddr) -> u128 {
        let (bits, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        bits.checked_shr(width - u32::from(self.prefix_bits))
            .unwrap_or(0)
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, bits) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let prefix_bits: u8 = bits.parse().map_err(|_| ())?;
        if prefix_bits > if address.is_ipv4() { 32 } else { 128 } {
            return Err(());
        }
        let network = Network {
            address,
            prefix_bits,
        };
        // Bits behind the prefix are a slip of the pen that would allow more than was meant.
        let free = if address.is_ipv4() { 32 } else { 128 } - u32::from(prefix_bits);
        let kept = network.cut(address).checked_shl(free).unwrap_or(0);
        let whole = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        if kept == whole { Ok(network) } else { Err(()) }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* })*)
    => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<$name, ()> {
                match text { $($word => Ok($name::$variant),)* _ => Err(()) }
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($name::$variant => $word),* })
            }
        }
    )*};
}

words! {
    /// How log lines look.
    LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text"
    }
    /// What is worth a line.
    LogLevel {
        /// What has gone wrong and needs a person.
        Error = "error",
        /// What may need one.
        Warn = "warn",
        /// What happened, one line an attempt included.
        Info = "info",
        /// How it happened.
        Debug = "debug",
        /// Everything.
        Trace = "trace"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let network: Network = "10.0.0.0/8".parse().unwrap();
        assert!(network.holds("10.255.0.1".parse().unwrap()));
        assert!(!network.holds("11.0.0.1".parse().unwrap()));
        assert!(!network.holds("::ffff:10.0.0.1".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.holds("203.0.113.9".parse().unwrap()));
        let one: Network = "fd00::1/128".parse().unwrap();
        assert!(one.holds("fd00::1".parse().unwrap()) && !one.holds("fd00::2".parse().unwrap()));
        for text in [
            "10.0.0.0",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "fd00::/129",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!(network.to_string(), "10.0.0.0/8");
    }
}
