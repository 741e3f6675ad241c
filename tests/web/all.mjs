import './client_test.mjs';
import './page_test.mjs';
