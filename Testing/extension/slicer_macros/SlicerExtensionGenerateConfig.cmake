# Writes <extension>Config.cmake into the build folder, by which other extensions find this one.

file(WRITE ${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake
  "set(${EXTENSION_NAME}_SOURCE_DIR \"${EXTENSION_SOURCE_DIR}\")\n")
