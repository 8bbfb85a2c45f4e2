//! Columns of every kind and filling, written and read back by Parquet's reader, which knows nothing of how they were written.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type};

use super::{Lake, ordered, plain, read};
use crate::columns::Table;
use crate::lake::order::order_by_date;
use crate::log::Position;

/// How a column is filled, so that every way of writing it comes up.
#[derive(Debug, Clone, Copy)]
enum Filling {
    /// The same value in each row.
    Same,
    Few,
    Many,
    /// Many, some of them large.
    Large,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn number(&mut self, filling: Filling) -> i64 {
        match filling {
            Filling::Same => 7,
            Filling::Few => self.below(5).cast_signed() - 2,
            Filling::Many => self.below(100_000).cast_signed(),
            Filling::Large => (self.below(1 << 40) << 24 ^ self.below(1 << 40)).cast_signed(),
        }
    }

    fn text(&mut self, filling: Filling) -> String {
        let number = self.number(filling);
        let times = match filling {
            Filling::Large if self.below(50) == 0 => 400 + self.below(800),
            _ => self.below(4),
        };
        format!("ä{number} ").repeat(usize::try_from(times).unwrap())
    }

    /// `nulls` of a thousand values are null.
    fn some<T>(&mut self, nulls: u64, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let is_null = self.below(1000) < nulls;
        (!is_null).then(|| value(self))
    }

    fn array(&mut self, field: &Field, rows: usize, filling: Filling, nulls: u64) -> ArrayRef {
        let nulls = if field.is_nullable() { nulls } else { 0 };
        let mut values = |value: &mut dyn FnMut(&mut Self) -> i64| (0..rows).map(|_| self.some(nulls, &mut *value)).collect::<Vec<_>>();
        match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from(values(&mut |random| random.number(filling)))),
            DataType::Int32 => Arc::new(
                values(&mut |random| random.number(filling) >> 32).into_iter().map(|value| Some(value? as i32)).collect::<Int32Array>(),
            ),
            DataType::Boolean => Arc::new(
                values(&mut |random| random.number(filling)).into_iter().map(|value| Some(value? % 2 == 0)).collect::<BooleanArray>(),
            ),
            DataType::Float64 => Arc::new(
                values(&mut |random| random.number(filling)).into_iter().map(|value| Some(value? as f64)).collect::<Float64Array>(),
            ),
            DataType::Date32 => Arc::new(Date32Array::from_value(20_000, rows)),
            DataType::Timestamp(..) => {
                Arc::new(TimestampMicrosecondArray::from(values(&mut |random| random.number(filling))).with_timezone("UTC"))
            }
            DataType::Utf8 => Arc::new((0..rows).map(|_| self.some(nulls, |random| random.text(filling))).collect::<StringArray>()),
            DataType::Binary if matches!(filling, Filling::Large) => {
                let texts: Vec<_> = (0..rows).map(|_| self.some(nulls, |random| random.text(filling))).collect();
                Arc::new(texts.iter().map(|text| text.as_ref().map(String::as_bytes)).collect::<BinaryArray>())
            }
            DataType::Binary => {
                let ids: Vec<_> = (0..rows).map(|_| self.some(nulls, |random| random.number(filling).to_be_bytes())).collect();
                Arc::new(ids.iter().map(|id| id.as_ref().map(<[u8; 8]>::as_slice)).collect::<BinaryArray>())
            }
            DataType::Dictionary(..) => {
                let words: Vec<_> = (0..rows).map(|_| self.some(nulls, |random| random.text(filling))).collect();
                Arc::new(words.iter().map(|word| word.as_deref()).collect::<DictionaryArray<Int32Type>>())
            }
            DataType::List(element) => {
                let lengths: Vec<usize> = (0..rows).map(|_| if self.below(3) == 0 { self.below(4) as usize } else { 0 }).collect();
                let elements = self.array(element, lengths.iter().sum(), filling, nulls / 4);
                Arc::new(ListArray::new(Arc::clone(element), OffsetBuffer::from_lengths(lengths), elements, None))
            }
            DataType::Struct(members) => {
                let columns = members.iter().map(|member| self.array(member, rows, filling, nulls)).collect();
                Arc::new(StructArray::new(members.clone(), columns, None))
            }
            other => unreachable!("no table has {other}"),
        }
    }

    fn batch(&mut self, table: Table, rows: usize, turn: u64) -> RecordBatch {
        let schema = table.schema();
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            // Neither fillings nor nulls go in step with columns.
            let choice = turn.wrapping_mul(31).wrapping_add(index as u64 * 7);
            let filling = [Filling::Same, Filling::Few, Filling::Many, Filling::Large][(choice % 4) as usize];
            self.array(field, rows, filling, [0, 0, 300, 1000, 990][(choice / 4 % 5) as usize])
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    }
}

#[test]
fn columns_of_every_filling_are_read_back() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    for turn in 0..12 {
        for table in [Table::Spans, Table::Eval, Table::Tag, Table::AgentTask] {
            let sizes = [random.below(3), random.below(300), if turn % 7 == 0 { 20_000 } else { 1 + random.below(2000) }];
            let batches: Vec<_> = sizes
                .into_iter()
                .map(|rows| {
                    // A part of a batch, as readers of ours never see one but arrays may be.
                    let batch = random.batch(table, rows as usize + 3, turn);
                    batch.slice(random.below(3) as usize, rows as usize)
                })
                .collect();
            let lake = Lake::new();
            let commit = lake.open(table).commit(&lake.runtime, &batches, Position(1), &[]).unwrap();
            let expected = order_by_date(table, &batches).unwrap();
            let [rows] = expected.as_slice() else { unreachable!("all rows are of one date") };
            let (stored, expected) = (read(&commit.snapshot.files[0]), ordered(table, &batches, rows));
            for (index, (stored, expected)) in plain(&stored).iter().zip(plain(&expected)).enumerate() {
                assert_eq!(stored, &expected, "{table:?}, turn {turn}, column {}", table.schema().field(index).name());
            }
        }
    }
}
