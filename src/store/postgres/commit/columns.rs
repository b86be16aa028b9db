//! Rows as parameters: an array for each column.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, Encode, Postgres, Type};

/// Rows of a kind that become parameters.
pub(super) trait Rows {
    /// How many parameters they are.
    const COLUMNS: usize;

    /// Adds the parameters, an array for each column.
    fn bind(self, arguments: &mut PgArguments);
}

/// Adds a parameter.
pub(super) fn add<'q, T>(arguments: &mut PgArguments, column: Vec<T>)
where
    Vec<T>: Encode<'q, Postgres> + Type<Postgres>,
{
    arguments
        .add(column)
        .expect("texts, ids and numbers of a batch fit into an array");
}

/// A row type whose fields are columns, in this order.
macro_rules! rows {
    ($(#[$doc:meta])* $name:ident $(<$lifetime:lifetime>)? { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        pub(super) struct $name $(<$lifetime>)? { $($(#[$field_doc])* pub(super) $field: $type,)* }

        impl $(<$lifetime>)? $crate::store::postgres::commit::columns::Rows for Vec<$name $(<$lifetime>)?> {
            const COLUMNS: usize = [$(stringify!($field)),*].len();

            fn bind(self, arguments: &mut sqlx::postgres::PgArguments) {
                $(let mut $field = Vec::with_capacity(self.len());)*
                for row in self {
                    $($field.push(row.$field);)*
                }
                $($crate::store::postgres::commit::columns::add(arguments, $field);)*
            }
        }
    };
}
pub(super) use rows;
