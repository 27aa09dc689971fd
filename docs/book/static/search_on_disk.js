"use strict";

// A page that was opened from a disk can't read other pages, so its search lists titles alone.
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";
