// Search shows a line of each page that it finds by fetching the page. A page opened from a file may not fetch.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
