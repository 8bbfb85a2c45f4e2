//! The tables as readers see them.

use arrow::datatypes::DataType;

use crate::columns::{Columns, Table};

#[test]
fn names_are_distinct_and_found_again() {
    for table in Table::ALL {
        assert_eq!(Table::from_name(table.name()), Some(table));
        assert_eq!(Table::ALL[table as usize], table, "schemas are held by this index");
    }
    assert_eq!(Table::from_name("traces"), None);
}

#[test]
fn every_table_has_its_partition_and_its_sort_columns() {
    for table in Table::ALL {
        let schema = table.schema();
        assert_eq!(schema.field_with_name("date").unwrap().data_type(), &DataType::Date32);
        for column in table.sort_columns() {
            assert!(!schema.field_with_name(column).unwrap().is_nullable(), "{table:?} {column}");
        }
        let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), schema.fields().len());
    }
}

#[test]
fn types_are_those_delta_lake_knows() {
    fn check(data_type: &DataType) {
        match data_type {
            DataType::Dictionary(key, value) => assert_eq!((&**key, &**value), (&DataType::Int32, &DataType::Utf8)),
            DataType::List(element) => {
                assert!(element.is_nullable() && element.name() == "element");
                check(element.data_type());
            }
            DataType::Struct(members) => members.iter().for_each(|member| {
                assert!(member.is_nullable());
                check(member.data_type());
            }),
            DataType::Timestamp(unit, zone) => {
                assert_eq!((unit, zone.as_deref()), (&arrow::datatypes::TimeUnit::Microsecond, Some("UTC")));
            }
            known => assert!(
                matches!(known, DataType::Utf8 | DataType::Binary | DataType::Int32 | DataType::Int64)
                    || matches!(known, DataType::Float64 | DataType::Boolean | DataType::Date32),
                "{known}"
            ),
        }
    }
    Table::ALL.iter().flat_map(|table| table.schema().fields().to_vec()).for_each(|field| check(field.data_type()));
}

#[test]
fn no_rows_make_no_batch() {
    let mut columns = Columns::default();
    assert_eq!((columns.rows(), columns.finish().len()), (0, 0));
}
