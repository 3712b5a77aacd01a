
// The search in the table of neighbours.
const startSearch = () => {
  const rows = [...byId("neighbour-table").tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const search = () => {
    const query = byId("search").value.trim().toLowerCase();
    let count = 0;
    rows.forEach((row, at) => {
      row.hidden = !texts[at].includes(query);
      count += !row.hidden;
    });
    byId("row-count").textContent = `${count} of ${rows.length} rows`;
  };
  byId("search").addEventListener("input", search);
  search();
};

if (byId("neighbour-table")) startSearch();
