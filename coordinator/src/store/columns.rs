//! Values as the database holds them, and back; what does not read is an error, never a guess.

use proto::UnixTime;
use proto::id::Digest;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite};

use super::StoreError;

pub(super) fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { step, source }
}

/// A number as the database holds it; what lies beyond is as good as the last there is.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as the database holds it; what lies beyond is as good as never.
pub(super) fn stored_time(time: UnixTime) -> i64 {
    stored(time.0)
}

pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(name).map_err(failed("read a row"))
}

pub(super) fn number<T: TryFrom<i64>>(
    row: &SqliteRow,
    name: &'static str,
) -> Result<T, StoreError> {
    let stored: i64 = column(row, name)?;
    T::try_from(stored)
        .map_err(|_| StoreError::Corrupt { what: name, why: format!("{stored} is out of range") })
}

pub(super) fn text<T>(row: &SqliteRow, name: &'static str) -> Result<T, StoreError>
where
    T: std::str::FromStr<Err = proto::id::ParseIdError>,
{
    let stored: &str = column(row, name)?;
    stored.parse().map_err(|error: proto::id::ParseIdError| StoreError::Corrupt {
        what: name,
        why: error.to_string(),
    })
}

pub(super) fn digest(row: &SqliteRow, name: &'static str) -> Result<Digest, StoreError> {
    let stored: &[u8] = column(row, name)?;
    let bytes = stored.try_into().map_err(|_| StoreError::Corrupt {
        what: name,
        why: format!("{} bytes, not 32", stored.len()),
    })?;
    Ok(Digest::from_computed(bytes))
}
