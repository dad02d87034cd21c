# Checks what the catalog needs to know, and installs it as the description of the extension.

set(description "")
foreach(name HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
  string(TOLOWER ${name} key)
  string(APPEND description "${key} ${EXTENSION_${name}}\n")
endforeach()
foreach(file LICENSE README.md)
  if(NOT EXISTS ${EXTENSION_SOURCE_DIR}/${file})
    message(FATAL_ERROR "the extension has no ${file}")
  endif()
endforeach()

file(WRITE ${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext "${description}")
install(FILES ${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext DESTINATION ${Slicer_INSTALL_ROOT}${Slicer_SHARE_DIR})
