//! How a section of the configuration is declared: keys, kinds, defaults, bounds and reasons in one
//! place, from which come the struct, its reading, its checks and the reference.
//!
//! Absent here: the sections themselves, and files.

use toml::de::DeValue;

/// One key of a section, as the reference shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it has.
    pub kind: &'static str,
    /// What it is without being set.
    pub default: String,
    /// Smallest and largest value, where there are such.
    pub bounds: Option<(String, String)>,
    /// What it does and why it is what it is.
    pub doc: String,
}

/// A section of the configuration.
pub trait Section: Default {
    /// What the section is about.
    fn doc() -> String;

    /// Its keys, in the order of the reference.
    fn keys() -> Vec<Key>;

    /// Sets one key. `None`: there is no such key.
    ///
    /// # Errors
    /// What is demanded of the value, as the end of a sentence.
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), String>>;
}

/// Declares sections. A key is `name: kind = default` and, for numbers, `, min..=max`.
macro_rules! section {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident {
            $(
                $(#[doc = $key_doc:literal])*
                $key:ident: $kind:ty = $default:expr $(, $min:literal ..= $max:literal)?;
            )*
        }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $key_doc])* pub $key: $kind,)*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($key: $default,)* }
            }
        }

        impl $crate::config::section::Section for $name {
            fn doc() -> String {
                [$($doc),*].concat().trim().to_owned()
            }

            fn keys() -> Vec<$crate::config::section::Key> {
                use $crate::config::value::Setting;
                let default = $name::default();
                vec![$($crate::config::section::Key {
                    name: stringify!($key),
                    kind: <$kind as Setting>::KIND,
                    default: default.$key.show(),
                    bounds: [$((stringify!($min).to_owned(), stringify!($max).to_owned()))?]
                        .first().cloned(),
                    doc: [$($key_doc),*].concat().trim().to_owned(),
                },)*]
            }

            fn set(
                &mut self,
                key: &str,
                value: &toml::de::DeValue<'_>,
            ) -> Option<Result<(), String>> {
                use $crate::config::value::Setting;
                match key {
                    $(stringify!($key) => Some(<$kind>::read(value).and_then(|read| {
                        $(if !($min..=$max).contains(&read) {
                            return Err(format!(
                                "must be between {} and {}", stringify!($min), stringify!($max)
                            ));
                        })?
                        self.$key = read;
                        Ok(())
                    })),)*
                    _ => None,
                }
            }
        }
    )*};
}

pub(super) use section;
