//! One field of a message: what can be wrong with it, enums in both directions, and JSON that only a kind understands.

/// Why a message is not what it says that it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The peer may be newer than this program, and mean something that this one cannot do.
    #[error("{field}: {value} is not a value that this version knows; bring both programs to the same version")]
    UnknownValue { field: &'static str, value: i32 },
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
}

impl ConvertError {
    pub(super) fn invalid(field: &'static str, error: impl std::fmt::Display) -> Self {
        let message = error.to_string();
        Self::Invalid { field, message }
    }
}

/// Both directions of an enum. A new variant on either side does not compile until it is named here, and zero is no variant.
macro_rules! enums {
    ($model:ty, $wire:ty, $from_wire:ident, $field:literal: $($variant:ident),+ $(,)?) => {
        impl From<$model> for $wire {
            fn from(value: $model) -> Self {
                match value {
                    $(<$model>::$variant => <$wire>::$variant,)+
                }
            }
        }

        /// A number from the wire as the model's type.
        pub fn $from_wire(value: i32) -> Result<$model, $crate::convert::field::ConvertError> {
            let unknown = $crate::convert::field::ConvertError::UnknownValue { field: $field, value };
            match <$wire>::try_from(value) {
                $(Ok(<$wire>::$variant) => Ok(<$model>::$variant),)+
                Ok(<$wire>::Unspecified) | Err(_) => Err(unknown),
            }
        }
    };
}

pub(crate) use enums;

/// JSON that only its kind understands: parameters and effects.
pub(super) fn json(field: &'static str, text: &str) -> Result<serde_json::Value, ConvertError> {
    serde_json::from_str(text).map_err(|error| ConvertError::invalid(field, error))
}
